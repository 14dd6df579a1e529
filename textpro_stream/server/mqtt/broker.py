"""Which broker, as whom, and under which topics: `--mqtt URL`, read and checked at start."""

from __future__ import annotations

import hashlib
import logging
import re
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from textpro_stream.errors import ConfigError

LOG = logging.getLogger(__name__)

PORT, PORT_TLS = 1883, 8883
FORM = "mqtt://[user@]host[:port][/prefix], or mqtts:// for TLS"
PASSWORD = "TEXTPRO_SERVER__MQTT_PASSWORD"
DISCOVERY = "homeassistant"  # the prefix that Home Assistant is set up with
MADE_UP = re.compile(r"[0-9a-f]{12}")  # how container engines name hosts
TOPIC_MAX = 100  # characters of the part that all topics share


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker and our place in it."""

    host: str
    port: int = PORT
    base: str = "textpro/here"  # what all our topics begin with
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    discovery: str = DISCOVERY  # where Home Assistant looks for devices

    @classmethod
    def parse(
        cls,
        url: str,
        *,
        password: str | None = None,
        ca: str | Path | None = None,
        machine: str | None = None,
        discovery: str = DISCOVERY,
    ) -> Self:
        """Read `mqtt://[user@]host[:port][/prefix]`.

        The path is what topics begin with. Without one it is `textpro`; and a path of one part
        gets the machine's name as its second, so that several machines can share a URL.

        Args:
            url: mqtt:// or mqtts://; never with a password, which process lists would show.
            password: from the environment or a file.
            ca: certificate file to trust, instead of the system's; only with mqtts://.
            machine: the name of this machine; asked for without it.
            discovery: the prefix under which Home Assistant looks for devices.

        Raises:
            ConfigError: one line that names the fix.
        """
        try:
            parts = urlsplit(url)
            port, host = parts.port, parts.hostname
        except ValueError as error:
            raise ConfigError(f"--mqtt: {error}; give {FORM}") from None
        if parts.password is not None:  # so the URL is not repeated here
            raise ConfigError(f"--mqtt: no password in the URL; set {PASSWORD} instead")
        if parts.scheme not in ("mqtt", "mqtts") or not host or parts.query or parts.fragment:
            raise ConfigError(f"--mqtt {url}: give {FORM}", url=url)
        secure = parts.scheme == "mqtts"
        username = unquote(parts.username) if parts.username else None
        if password and not username:
            raise ConfigError(f"--mqtt {url}: a password needs a user: mqtt://USER@{host}", url=url)
        if ca and not secure:
            raise ConfigError(f"--mqtt-ca: {url} is without TLS; write mqtts://", url=url)
        return cls(
            host,
            port or (PORT_TLS if secure else PORT),
            base=_base(unquote(parts.path), machine or socket.gethostname()),
            username=username,
            password=password or None,
            tls=_context(ca) if secure else None,
            discovery=_checked(discovery.strip("/")),
        )

    @property
    def node(self) -> str:
        """The base as one word, for ids: no two bases have the same.

        Characters that an id may not hold would make many of them alike, and so would `/` beside
        `_`: then the whole base is in the word once more, as a checksum.
        """
        plain = re.fullmatch(r"[A-Za-z0-9-]+/[A-Za-z0-9-]+", self.base)
        checksum = hashlib.sha256(self.base.encode()).hexdigest()[:8]
        return self.former_node if plain else f"{self.former_node}_{checksum}"

    @property
    def former_node(self) -> str:
        """What `node` was once: a device under it is replaced."""
        return re.sub(r"[^A-Za-z0-9_-]+", "_", self.base)

    def __str__(self) -> str:
        """As a person would write it, without secrets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}/{self.base}"


def _base(path: str, machine: str) -> str:
    base = path.strip("/") or "textpro"
    if "/" not in base:
        machine = machine.partition(".")[0].lower()
        name = re.sub(r"[^\w-]+", "-", machine).strip("-_")  # letters of any script
        if MADE_UP.fullmatch(machine):
            LOG.warning(
                "mqtt: %s looks like a container's name, which changes at each start; our topics"
                " are under %s/here; give --mqtt a path of two parts to tell several apart",
                machine,
                base,
            )
            name = "here"
        base = f"{base}/{name or 'here'}"
    return _checked(base)


def _checked(base: str) -> str:
    if len(base) > TOPIC_MAX or not re.fullmatch(r"[^+#$\x00-\x1f/][^+#\x00-\x1f]*", base):
        raise ConfigError(
            f"--mqtt: topics cannot begin with {base[:TOPIC_MAX]!r}; use letters, digits and /,"
            f" at most {TOPIC_MAX} characters",
            base=base,
        )
    return base


def _context(ca: str | Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        why = error.strerror if isinstance(error, FileNotFoundError) else "not a PEM certificate"
        raise ConfigError(f"--mqtt-ca {ca}: {why}", path=str(ca)) from None
