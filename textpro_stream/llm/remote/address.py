"""Where an LLM server is: read from `[llm] url` and `model`, here alone."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from textpro_stream.config import LlmOptions
from textpro_stream.errors import ConfigError

EXAMPLE = "http://localhost:11434/v1#llama3.2"
_ENDPOINT = "/chat/completions"


@dataclass(frozen=True, slots=True)
class Address:
    """An OpenAI-compatible server, and a model of it."""

    url: str  # as far as …/v1, no slash at its end
    model: str = ""  # "" = the one that the server lists first
    api_key: str = field(default="", repr=False)

    def __str__(self) -> str:
        return self.url

    @property
    def is_loopback(self) -> bool:
        """It is on this machine."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")

    @property
    def shows_key(self) -> bool:
        """The key travels where others can read it."""
        return bool(self.api_key) and not self.url.startswith("https:") and not self.is_loopback


def address_of(options: LlmOptions) -> Address | None:
    """The server that `options` name; None: the model is to run in this process.

    `url` may end with `#MODEL`; `model` may be such a URL itself, as after `--llm`. Beside a `url`,
    the default of `model` names nothing: it is a name of our own models.

    Raises:
        ConfigError: it is no such address; one line says what is wrong.
    """
    if not options.is_remote:
        return None
    url, model = options.url, options.model
    if _is_url(model):
        if url and url != model:
            raise ConfigError(f"[llm] url = {url} and model = {_shown(model)}: give one address")
        url, model = model, ""
    elif model == LlmOptions().model:
        model = ""
    name, shown = "[llm] url", _shown(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{name} = {shown}: {error}; write {EXAMPLE}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ConfigError(f"{name} = {shown}: no address of a server; write {EXAMPLE}")
    if parts.username is not None or parts.query:
        raise ConfigError(
            f"{name} = {shown}: takes neither user nor query; a key goes into TEXTPRO_LLM__API_KEY"
        )
    if parts.fragment and model and parts.fragment != model:
        raise ConfigError(f"{name} = {shown} and model = {model}: name one model")
    path = parts.path.rstrip("/").removesuffix(_ENDPOINT) or "/v1"
    address = f"{parts.scheme}://{parts.netloc}{path}"
    return Address(address, parts.fragment or model, options.api_key)


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _shown(url: str) -> str:
    """Without a password that somebody put into it."""
    scheme, slashes, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return scheme + slashes + authority.rpartition("@")[2] + slash + path
