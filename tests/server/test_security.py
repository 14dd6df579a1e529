from __future__ import annotations

import logging
from pathlib import Path

import pytest

from textpro_stream.config import ServerOptions
from textpro_stream.errors import ConfigError
from textpro_stream.server.security import Gate, Redact, check_bind, key_of, read_keys

KEY = "correct-horse-battery-staple"
OTHER = "another-secret-of-enough-length"


def gate(secure: bool = False, keys: dict[str, str] | None = None, **options: object) -> Gate:
    return Gate(ServerOptions(**options), keys or {}, secure=secure)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8765", "localhost", "LOCALHOST:1", "localhost.:80", "[::1]:8765"],
)
def test_names_of_this_machine_are_known(host: str) -> None:
    assert gate().knows_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example@localhost",
        "localhost/",
        "localhost:x",
        "192.168.1.5",
        "[::1",
    ],
)
def test_a_rebound_name_is_not_ours(host: str) -> None:
    assert not gate().knows_host(host)


def test_behind_any_address_numbers_are_known_and_names_are_not() -> None:
    anywhere = gate(host="0.0.0.0", hosts="voice.example.org")
    assert anywhere.knows_host("192.168.1.5:8765")
    assert anywhere.knows_host("voice.example.org")
    assert not anywhere.knows_host("evil.example")


def test_only_our_own_page_may_connect() -> None:
    own, host = gate(), "127.0.0.1:8765"
    assert own.knows_origin(["http://127.0.0.1:8765"], host)
    for origin in (
        "null",
        "",
        "http://127.0.0.1",
        "http://127.0.0.1:3000",
        "https://127.0.0.1:8765",
        "http://localhost:8765",
        "http://127.0.0.1:8765.evil.example",
        "http://evil.example/127.0.0.1:8765",
        "http://127.0.0.1:8765@evil.example",
        "file://",
    ):
        assert not own.knows_origin([origin], host), origin
    assert not own.knows_origin(["http://127.0.0.1:8765"] * 2, host)


def test_no_browser_has_no_origin() -> None:
    assert gate().knows_origin([], "127.0.0.1:8765")


def test_default_ports_need_not_be_written() -> None:
    assert gate(secure=True, hosts="a.example").knows_origin(["https://a.example"], "a.example:443")


def test_further_pages_are_compared_whole() -> None:
    other = gate(origins="https://voice.example.org, http://b.example:81")
    assert other.knows_origin(["https://voice.example.org"], "127.0.0.1")
    assert other.knows_origin(["http://b.example:81"], "127.0.0.1")
    assert not other.knows_origin(["https://voice.example.org.evil.example"], "127.0.0.1")


def test_keys_have_names_and_come_in_two_ways() -> None:
    keyed = gate(keys={"laptop": KEY, "phone": OTHER})
    assert keyed.asks_for_key
    assert keyed.name_of(key_of([f"Bearer {OTHER}"], [])) == "phone"
    assert keyed.name_of(key_of([f"bearer  {KEY}"], [])) == "laptop"
    assert keyed.name_of(key_of([], ["textpro", f"openai-insecure-api-key.{KEY}"])) == "laptop"
    for wrong in (None, "", KEY[:-1], KEY + "x", "ä" * 30):
        assert keyed.name_of(wrong) is None
    assert keyed.name_of(key_of([f"Basic {KEY}"], ["textpro"])) is None


def test_a_key_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# ours\nlaptop: {KEY}\n\n{OTHER}\n")
    assert read_keys(ServerOptions(api_key_file=str(file))) == {"laptop": KEY, "line 4": OTHER}


@pytest.mark.parametrize("text", ["", "# nothing\n", "laptop: short\n", "a b c d: " + KEY])
def test_a_key_file_that_holds_no_secret(text: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_keys(ServerOptions(api_key_file=str(file)))
    assert "short" not in str(error.value)


def test_a_key_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_keys(ServerOptions(api_key_file=str(tmp_path / "none")))


def test_other_machines_need_a_key() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.5", ""):
        with pytest.raises(ConfigError, match="needs a key"):
            check_bind(ServerOptions(host=host), {})
        check_bind(ServerOptions(host=host), {"a": KEY})
        check_bind(ServerOptions(host=host, insecure=True), {})
    for host in ("127.0.0.1", "localhost", "::1"):
        check_bind(ServerOptions(host=host), {})


@pytest.mark.parametrize(
    "line",
    [
        f"< Authorization: Bearer {KEY}",
        f"< Sec-WebSocket-Protocol: textpro, openai-insecure-api-key.{KEY}",
    ],
)
def test_keys_stay_out_of_logs(line: str) -> None:
    record = logging.LogRecord("x", logging.DEBUG, "", 0, "%s", (line,), None)
    assert Redact().filter(record)
    assert KEY not in record.getMessage()
    assert "[redacted]" in record.getMessage()
