from __future__ import annotations

import logging

import pytest

from textpro_stream.cli.doctor import examine
from textpro_stream.cli.settings import dump_settings, load_settings, parse_assignment
from textpro_stream.config import LlmOptions, Settings
from textpro_stream.errors import ConfigError
from textpro_stream.llm.remote import Address, address_of, open_remote
from textpro_stream.wire import value_to_json

OWN = LlmOptions().model


@pytest.mark.parametrize(
    ("url", "model", "address"),
    [
        ("", OWN, None),
        ("", "some/folder", None),
        ("http://here:1/v1", OWN, Address("http://here:1/v1")),
        ("http://here:1/v1/", "small", Address("http://here:1/v1", "small")),
        ("http://here:1/v1#small", OWN, Address("http://here:1/v1", "small")),
        ("", "http://here:1/v1#org/small:4b", Address("http://here:1/v1", "org/small:4b")),
        ("http://here:1", OWN, Address("http://here:1/v1")),
        ("https://here/api/v1", OWN, Address("https://here/api/v1")),
        ("http://here:1/v1/chat/completions", OWN, Address("http://here:1/v1")),
        ("http://[::1]:1/v1", OWN, Address("http://[::1]:1/v1")),
    ],
)
def test_addresses(url: str, model: str, address: Address | None) -> None:
    assert address_of(LlmOptions(url=url, model=model)) == address


@pytest.mark.parametrize(
    ("url", "model", "says"),
    [
        ("here:1", OWN, "no address of a server; write http://"),
        ("ftp://here/v1", OWN, "no address of a server"),
        ("http://", OWN, "no address of a server"),
        ("http://here:high/v1", OWN, "write http://"),
        ("http://me:secret@here/v1", OWN, "takes neither user nor query"),
        ("http://here/v1?key=1", OWN, "TEXTPRO_LLM__API_KEY"),
        ("http://here/v1#small", "large", "name one model"),
        ("http://here/v1", "http://there/v1", "give one address"),
    ],
)
def test_what_is_no_address_is_said_in_one_line(url: str, model: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        address_of(LlmOptions(url=url, model=model))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "key", "warned"),
    [
        ("http://192.168.1.2:1/v1", "k", True),
        ("http://192.168.1.2:1/v1", "", False),
        ("https://there/v1", "k", False),
        ("http://localhost:1/v1", "k", False),
        ("http://127.0.0.5:1/v1", "k", False),
    ],
)
async def test_a_key_that_others_could_read_is_warned_of(
    url: str, key: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        engine = open_remote(LlmOptions(url=url, api_key=key))
    assert engine is not None
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warned
    await engine.close()


def test_the_key_comes_from_the_environment_and_is_shown_nowhere() -> None:
    settings = load_settings({}, environ={"TEXTPRO_LLM__API_KEY": "sesame"})
    assert settings.llm.api_key == "sesame"
    assert "sesame" not in dump_settings(settings)
    assert "sesame" not in str(value_to_json(settings.llm))  # as recordings hold it
    assert "sesame" not in repr(Address("http://here/v1", api_key="sesame"))
    with pytest.raises(ConfigError, match="others could read it"):
        parse_assignment("llm.api_key=sesame")


def test_doctor_asks_the_server() -> None:
    found = {f.about: f for f in examine(Settings(llm=LlmOptions(url="http://127.0.0.1:9/v1")))}
    assert found["LLM"].state == "missing"
    assert "cannot be reached" in found["LLM"].text
    assert found["tone"].state == "note"
