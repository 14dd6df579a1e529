"""How Home Assistant learns of us: one retained message describes a device and its entities.

Device form of MQTT discovery: `dev` and `o` (who we are) are mandatory, `cmps` maps a key to an
entity with its platform `p` and `unique_id`. What stands beside them (availability, QoS) is shared
by all entities.
"""

from __future__ import annotations

import textpro_stream
from textpro_stream.server.mqtt.broker import DISCOVERY
from textpro_stream.server.mqtt.topics import EVENTS, OFF, ON, STATES, Topics

BIRTH = "online"  # Home Assistant has (re)started

Json = dict[str, object]


def discovery_topic(node: str, prefix: str = DISCOVERY) -> str:
    """Where the message goes; an empty one there removes the device."""
    return f"{prefix}/device/{node}/config"


def birth_topics(prefix: str) -> tuple[str, ...]:
    """Where Home Assistant says that it has started: an option of its own, often left alone."""
    return tuple(dict.fromkeys(f"{each}/status" for each in (prefix, DISCOVERY)))


def discovery(node: str, topics: Topics, *, text: bool) -> Json:
    """The message.

    Args:
        node: id of this device among all that speak MQTT.
        topics: ours.
        text: transcript and reply are published, so there are sensors for them.
    """
    version = textpro_stream.__version__
    components = _components(topics, text=text)
    return {
        "dev": {
            "ids": [node],
            "name": f"Voice assistant {topics.base.rpartition('/')[2]}",
            "mf": "textpro-stream",
            "mdl": "Streaming voice assistant",
            "sw": version,
        },
        "o": {"name": "textpro-stream", "sw": version},
        "availability_topic": topics.status,
        "qos": 1,
        "cmps": {
            key: {**entity, "unique_id": f"{node}_{key}"} for key, entity in components.items()
        },
    }


def _components(topics: Topics, *, text: bool) -> dict[str, Json]:
    components: dict[str, Json] = {
        "state": {
            "p": "sensor",
            "name": "State",
            "state_topic": topics.state,
            "device_class": "enum",
            "options": list(STATES),
            "icon": "mdi:account-voice",
        },
        "speaking": {
            "p": "binary_sensor",
            "name": "Speaking",
            "state_topic": topics.state,
            "value_template": f"{{{{ '{ON}' if value == 'speaking' else '{OFF}' }}}}",
        },
        "latency": {
            "p": "sensor",
            "name": "Response gap",
            "state_topic": topics.latency,
            "value_template": "{{ value_json.server_perceived | default(none) }}",
            "json_attributes_topic": topics.latency,
            "device_class": "duration",
            "unit_of_measurement": "s",
            "state_class": "measurement",
            "suggested_display_precision": 2,
            "entity_category": "diagnostic",
        },
        "sessions": {
            "p": "sensor",
            "name": "Conversations",
            "state_topic": topics.sessions,
            "state_class": "measurement",
            "entity_category": "diagnostic",
        },
        "event": {
            "p": "event",
            "name": "Conversation",
            "state_topic": topics.event,
            "event_types": list(EVENTS),
        },
        "say": {"p": "notify", "name": "Say", "command_topic": topics.command("say")},
        "stop": {"p": "button", "name": "Stop", "command_topic": topics.command("stop")},
        "listen": {
            "p": "switch",
            "name": "Listen",
            "state_topic": topics.listen,
            "command_topic": topics.command("listen"),
            "icon": "mdi:microphone",
        },
        "volume": {
            "p": "number",
            "name": "Volume",
            "state_topic": topics.volume,
            "command_topic": topics.command("volume"),
            "min": 0,
            "max": 100,
            "unit_of_measurement": "%",
            "icon": "mdi:volume-high",
        },
    }
    if text:
        shown = "{{ value[:255] }}"  # a state holds no more
        components["transcript"] = {
            "p": "sensor",
            "name": "Heard",
            "state_topic": topics.transcript,
            "value_template": shown,
        }
        components["reply"] = {
            "p": "sensor",
            "name": "Answered",
            "state_topic": topics.reply,
            "value_template": shown,
        }
    return components
