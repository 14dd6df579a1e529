"""TLS: with the certificate that is given, or one made on the spot."""

from __future__ import annotations

import hashlib
import ipaddress
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

from textpro_stream.config import ServerOptions
from textpro_stream.errors import ConfigError
from textpro_stream.server.security import ANY_ADDRESS, listed
from textpro_stream.store import cache_root

VALID_DAYS, RENEWED_DAYS = 365, 300


def tls_context(options: ServerOptions) -> ssl.SSLContext | None:
    """What speaks TLS; None where we do not.

    Raises:
        ConfigError: the certificate and its key cannot be used, or none can be made.
    """
    if options.tls_cert or options.tls_key:
        if not options.tls_cert or not options.tls_key:
            raise ConfigError("--tls-cert and --tls-key go together; --tls makes both by itself")
        certificate, key = Path(options.tls_cert), Path(options.tls_key)
    elif options.tls:
        certificate, key = self_signed(_names(options), cache_root() / "tls")
    else:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigError(
            f"--tls-cert {certificate} --tls-key {key}: cannot be used ({reason}); give a PEM"
            " certificate and its private key"
        ) from None
    return context


def self_signed(names: list[str], folder: Path) -> tuple[Path, Path]:
    """A certificate for these names that nobody vouches for, and its key.

    It is kept: a browser that was told to trust it need not be told again for most of a year.

    Raises:
        ConfigError: `openssl` is not installed, or fails.
    """
    mark = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
    certificate, key = folder / f"{mark}.crt", folder / f"{mark}.key"
    if certificate.is_file() and key.is_file():
        age_days = (time.time() - certificate.stat().st_mtime) / 86_400
        if age_days < RENEWED_DAYS:
            return certificate, key
    program = shutil.which("openssl")
    if program is None:
        raise ConfigError("--tls needs the program openssl; install it, or give --tls-cert")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    command = [
        *(program, "req", "-x509", "-nodes", "-days", str(VALID_DAYS)),
        *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-subj", "/CN=textpro", "-addext", f"subjectAltName={','.join(map(_entry, names))}"),
        *("-keyout", str(key), "-out", str(certificate)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise ConfigError(f"--tls: openssl failed ({lines[-1] if lines else 'no message'})")
    key.chmod(0o600)
    return certificate, key


def _names(options: ServerOptions) -> list[str]:
    """What browsers may call us."""
    own = ["localhost", "127.0.0.1", "::1", socket.gethostname(), *listed(options.hosts)]
    if options.host not in ANY_ADDRESS:
        own.append(options.host)
    return sorted(set(own))


def _entry(name: str) -> str:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return f"DNS:{name}"
    return f"IP:{name}"
