"""Plain HTTP beside the WebSockets: the page, how the server is, what it counts. No bodies in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote

from websockets.datastructures import Headers
from websockets.http11 import Response

import textpro_stream

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wav": "audio/wav",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
TEXT = "text/plain; charset=utf-8"
METHODS = ("GET", "HEAD")

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self)",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def content_security_policy(host: str) -> str:
    """What the page may load and where it may connect: this server, nothing else.

    Args:
        host: as the browser names us. `'self'` covers its WebSockets only in newer browsers.
    """
    return (
        "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self';"
        " img-src 'self' data:; media-src 'self' blob:;"
        f" connect-src 'self' ws://{host} wss://{host};"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def page_folder() -> Path:
    """Where the page's files are: beside the package in a checkout, within it once installed."""
    package = Path(textpro_stream.__file__).parent
    installed = package / "web"
    return installed if installed.is_dir() else package.parent / "web"


class Answers:
    """Makes responses, each with the headers that keep a browser careful.

    Args:
        folder: of the page; everything in it whose kind is known may be read by anybody.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def page(self, path: str, *, host: str, known: str | None) -> Response:
        """A file of the page; 404 for whatever is not one.

        Args:
            path: of the request, still quoted.
            host: for the content security policy.
            known: the `If-None-Match` header.
        """
        policy = {"Content-Security-Policy": content_security_policy(host)}
        file = self._find(path)
        if file is None:
            return plain(HTTPStatus.NOT_FOUND, "there is nothing here\n", policy)
        try:
            body = file.read_bytes()
        except OSError:
            return plain(HTTPStatus.NOT_FOUND, "there is nothing here\n", policy)
        tag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
        headers = policy | {"ETag": tag, "Cache-Control": "no-cache"}
        if known is not None and tag in (
            part.strip().removeprefix("W/") for part in known.split(",")
        ):
            return respond(HTTPStatus.NOT_MODIFIED, b"", None, headers)
        return respond(HTTPStatus.OK, body, TYPES[file.suffix], headers)

    def _find(self, path: str) -> Path | None:
        name = unquote(path).lstrip("/") or "index.html"
        parts = name.split("/")
        if (
            any(part.startswith(".") or part == "" for part in parts)
            or "\\" in name
            or "\0" in name
        ):
            return None
        file = self._folder.joinpath(*parts)
        if file.suffix not in TYPES or not file.is_file():
            return None
        return file if file.resolve().is_relative_to(self._folder) else None


def plain(status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """A line of text."""
    return respond(status, text.encode(), TEXT, {"Cache-Control": "no-store", **(headers or {})})


def respond(
    status: HTTPStatus, body: bytes, kind: str | None, headers: Mapping[str, str]
) -> Response:
    """Any answer. The connection closes after it: this is no server for many small files."""
    fields = {"Date": formatdate(usegmt=True), "Connection": "close"}
    if kind is not None:
        fields |= {"Content-Type": kind, "Content-Length": str(len(body))}
    return Response(status.value, status.phrase, Headers({**fields, **SECURITY, **headers}), body)


def without_body(response: Response) -> Response:
    """The same as HEAD asks for it: all headers, nothing after them."""
    return Response(response.status_code, response.reason_phrase, response.headers, b"")
