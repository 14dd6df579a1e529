"""The message that Home Assistant reads: what its documentation calls mandatory is there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from textpro_stream.server.mqtt.discovery import discovery, discovery_topic
from textpro_stream.server.mqtt.topics import EVENTS, STATES, Topics

TOPICS = Topics("home/kitchen")
NEEDS = {  # platform: what an entity of it cannot do without
    "sensor": {"state_topic"},
    "binary_sensor": {"state_topic", "value_template"},
    "event": {"state_topic", "event_types"},
    "notify": {"command_topic"},
    "button": {"command_topic"},
    "switch": {"state_topic", "command_topic"},
    "number": {"state_topic", "command_topic", "min", "max"},
}


def message(*, text: bool = False) -> dict[str, Any]:
    return json.loads(json.dumps(discovery("home_kitchen", TOPICS, text=text)))


def test_device_origin_and_availability_are_there() -> None:
    about = message()
    assert about["dev"]["ids"] == ["home_kitchen"]
    assert about["dev"]["name"] == "Voice assistant kitchen"
    assert {"mf", "mdl", "sw"} <= set(about["dev"])
    assert about["o"]["name"] == "textpro-stream"
    assert about["availability_topic"] == "home/kitchen/status"
    assert discovery_topic("home_kitchen") == "homeassistant/device/home_kitchen/config"


def test_each_entity_has_what_its_platform_needs() -> None:
    entities = message(text=True)["cmps"]
    for key, entity in entities.items():
        assert NEEDS[entity["p"]] <= set(entity), key
        assert entity["name"]
        for name, topic in entity.items():
            if name.endswith("_topic"):
                assert topic.startswith("home/kitchen/")
    ids = [entity["unique_id"] for entity in entities.values()]
    assert len(set(ids)) == len(ids)
    assert all(one.startswith("home_kitchen_") for one in ids)


def test_the_states_and_events_are_those_we_publish() -> None:
    entities = message()["cmps"]
    assert entities["state"]["options"] == list(STATES)
    assert entities["event"]["event_types"] == list(EVENTS)


@pytest.mark.parametrize("text", [False, True])
def test_text_has_sensors_only_where_it_is_published(text: bool) -> None:
    assert ("transcript" in message(text=text)["cmps"]) == text
    assert ("home/kitchen/transcript" in json.dumps(message(text=text))) == text
