from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

import pytest

from textpro_stream.errors import ConfigError
from textpro_stream.server.mqtt import Broker
from textpro_stream.server.mqtt.broker import PASSWORD


@pytest.mark.parametrize(
    ("url", "host", "port", "base"),
    [
        ("mqtt://localhost", "localhost", 1883, "textpro/desk"),
        ("mqtt://localhost/", "localhost", 1883, "textpro/desk"),
        ("mqtt://10.0.0.2:1884/home", "10.0.0.2", 1884, "home/desk"),
        ("mqtt://broker/home/kitchen/", "broker", 1883, "home/kitchen"),
        ("mqtts://broker/a/b", "broker", 8883, "a/b"),
        ("mqtt://[::1]:1883/a%20b/c", "::1", 1883, "a b/c"),
    ],
)
def test_the_url_says_where_and_under_which_topics(
    url: str, host: str, port: int, base: str
) -> None:
    broker = Broker.parse(url, machine="Desk.example.org")
    assert (broker.host, broker.port, broker.base) == (host, port, base)
    assert (broker.tls is not None) == url.startswith("mqtts:")


def test_a_machine_of_any_name_gets_a_topic() -> None:
    assert Broker.parse("mqtt://h", machine="Zoë's Mac").base == "textpro/zoë-s-mac"
    assert Broker.parse("mqtt://h", machine="...").base == "textpro/here"


def test_user_and_password_do_not_show() -> None:
    broker = Broker.parse("mqtt://me%40home@h:1/a/b", password="secret")
    assert (broker.username, broker.password) == ("me@home", "secret")
    assert "secret" not in repr(broker)
    assert str(broker) == "mqtt://h:1/a/b"


def test_the_base_becomes_one_word_for_ids_and_no_two_the_same() -> None:
    assert Broker.parse("mqtt://h/home/kitchen").node == "home_kitchen"
    rooms = ["客厅", "厨房", "кухня", "kitchen", "a b", "a_b", "a/b", "a.b", "a_/b"]
    nodes = [Broker.parse(f"mqtt://h/home/{quote(room)}").node for room in rooms]
    assert len(set(nodes)) == len(rooms)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", node) for node in nodes)
    machines = {Broker.parse("mqtt://h", machine=name).base for name in ("客厅", "厨房", "кухня")}
    assert len(machines) == 3


def test_a_containers_made_up_name_is_not_its_place(caplog: pytest.LogCaptureFixture) -> None:
    names = ("3f2a9c0d1e4b", "a1b2c3d4e5f6")
    assert {Broker.parse("mqtt://h", machine=name).node for name in names} == {"textpro_here"}
    assert "changes at each start" in caplog.text


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost", "mqtt://[user@]host"),
        ("http://localhost", "mqtt://[user@]host"),
        ("mqtt://", "mqtt://[user@]host"),
        ("mqtt://host?x=1", "mqtt://[user@]host"),
        ("mqtt://host:port", "mqtt://[user@]host"),
        ("mqtt://host:99999", "mqtt://[user@]host"),
        ("mqtt://[::1", "mqtt://[user@]host"),
        ("mqtt://host/a/+", "topics cannot begin"),
        ("mqtt://host/a/%23", "topics cannot begin"),
        ("mqtt://host/$SYS/x", "topics cannot begin"),
        ("mqtt://host/a%00/b", "topics cannot begin"),
        ("mqtt://host/" + "a" * 200, "topics cannot begin"),
    ],
)
def test_a_bad_url_is_explained_in_one_line(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"^--mqtt") as caught:
        Broker.parse(url)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match=PASSWORD) as caught:
        Broker.parse("mqtt://me:hunter2@host")
    assert "hunter2" not in str(caught.value)


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="USER@host"):
        Broker.parse("mqtt://host", password="x")
    with pytest.raises(ConfigError, match="write mqtts"):
        Broker.parse("mqtt://host", ca=tmp_path)
    with pytest.raises(ConfigError, match="No such file"):
        Broker.parse("mqtts://host", ca=tmp_path / "none.pem")
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match="not a PEM certificate"):
        Broker.parse("mqtts://host", ca=tmp_path / "bad.pem")
