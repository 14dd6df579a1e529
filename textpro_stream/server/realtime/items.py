"""The conversation as the client sees it: items in their order.

An item that the model remembers too names its message; a spoken turn n is `item_u{n}_{session}`
here and `u{n}` there, its reply `item_a{n}_{session}` and `a{n}`. Ids that we give are unique over
sessions, so that a client may bring a conversation's items back in another one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from textpro_stream.contracts import Message, Role, ToolCall
from textpro_stream.server.fields import Fields, Json, Refused
from textpro_stream.speech.playout import SpokenText, to_word

MAX_ITEMS = 2000  # of a session, all together
MAX_ID = 64  # characters
MAX_TEXT = 32_768  # characters of one item
TURNS = re.compile(r"[ua]\d+")  # how the model's memory names spoken turns and their replies
TEXTS = {  # role -> (content types a client may send, and where their text lies)
    "system": {"input_text": "text"},
    "user": {"input_text": "text", "input_audio": "transcript"},
    "assistant": {"output_text": "text", "output_audio": "transcript"},
}


class SentReply(SpokenText):
    """The text of a reply, and where in the audio that was sent it lies."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    @property
    def sent_ms(self) -> int:
        """Milliseconds of audio, rounded up: clients count in whole ones too."""
        return -(-self.samples * 1000 // self.rate_hz)

    def heard_by(self, end_ms: int) -> str:
        """The text up to a position in the audio, in whole words."""
        return to_word(self.text, self.characters_at(end_ms * self.rate_hz / 1000))


@dataclass(slots=True)
class Item:
    """One entry of the conversation."""

    value: Json  # as it is on the wire
    memory: str | None = None  # id of the message that the model remembers; None: it does not
    spoken: SentReply | None = field(default=None, repr=False)  # of a reply with sound

    @property
    def id(self) -> str:
        """Unique in the conversation."""
        name: str = self.value["id"]
        return name


class Items:
    """All entries in their order.

    Args:
        session: what ids that we give end with; unique.
    """

    def __init__(self, session: str = "") -> None:
        self._session = session
        self._given: set[str] = set()  # ids that entries have or had
        self._items: list[Item] = []
        self._by_id: dict[str, Item] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._items)

    def __contains__(self, item_id: str) -> bool:
        """That id is taken."""
        return item_id in self._by_id

    def add(self, item: Item, after: str | None = None) -> str | None:
        """Insert an item and give the id of the one before it.

        Args:
            item: with an id that is not taken.
            after: id of the one before it; "root": none; None: the last one.
        """
        at = len(self._items)
        if after is not None:
            at = 0 if after == "root" else self._items.index(self.get(after)) + 1
        self._items.insert(at, item)
        self._by_id[item.id] = item
        self._given.add(item.id)
        return self._items[at - 1].id if at else None

    def named(self, name: str) -> str:
        """An id of ours."""
        return f"item_{name}_{self._session}"

    def reserved(self, item_id: str) -> bool:
        """An item that is to come will have that id."""
        ours = re.fullmatch(rf"item_(u|a|idle)?\d+(_\d+)?_{self._session}", item_id)
        return item_id == "root" or (ours is not None and item_id not in self._given)

    def get(self, item_id: str, param: str = "item_id") -> Item:
        """The item of that id.

        Raises:
            Refused: there is none.
        """
        if (item := self._by_id.get(item_id)) is None:
            raise Refused("item_not_found", f"there is no item {item_id[:MAX_ID]!r}", param)
        return item

    def remove(self, item: Item) -> None:
        """Take an item out."""
        self._items.remove(item)
        del self._by_id[item.id]

    def last_id(self) -> str | None:
        """Of the last item."""
        return self._items[-1].id if self._items else None

    def memory_before(self, item: Item) -> str | None:
        """What the model's message of an item comes after: an id, "" for nothing, None for all."""
        at = self._items.index(item)
        if at == len(self._items) - 1:
            return None
        return next((i.memory for i in reversed(self._items[:at]) if i.memory), "")

    def knows_call(self, call_id: str) -> bool:
        """A function was called under that id."""
        return any(
            item.value["type"] == "function_call" and item.value["call_id"] == call_id
            for item in self._items
        )


def read_item(fields: Fields, new_id: str, items: Items) -> tuple[Item, Message]:
    """A client's item, and the message that it is to the model.

    Raises:
        Refused: it is no item, or of a kind that is not taken here.
    """
    item_id = fields.string("id", longest=MAX_ID) if fields.has("id") else new_id
    if item_id in items:
        fields.refuse("id", "an id that no other item has")
    if item_id != new_id and items.reserved(item_id):
        fields.refuse("id", "another id: this one is reserved for items that are to come")
    memory = f"item {item_id}" if TURNS.fullmatch(item_id) else item_id
    kind = fields.choice("type", ("message", "function_call", "function_call_output"))
    head: Json = {"id": item_id, "object": "realtime.item", "type": kind}
    if kind == "message":
        body, message = _message(fields, memory)
    elif kind == "function_call":
        name, arguments = fields.string("name", longest=MAX_ID), fields.string("arguments")
        call_id = fields.string("call_id", longest=MAX_ID) if fields.has("call_id") else item_id
        body = {"status": "completed", "name": name, "arguments": arguments, "call_id": call_id}
        message = Message(memory, "assistant", "", (ToolCall(name, arguments),))
    else:
        call_id = fields.string("call_id", longest=MAX_ID)
        if not items.knows_call(call_id):
            raise Refused("item_not_found", f"no call {call_id!r} is known", fields.at("call_id"))
        output = fields.string("output", longest=MAX_TEXT)
        body = {"status": "completed", "call_id": call_id, "output": output}
        message = Message(memory, "tool", output)
    return Item(head | body, memory=memory), message


def _message(fields: Fields, memory: str) -> tuple[Json, Message]:
    role = fields.choice("role", tuple(TEXTS))
    content: list[Json] = []
    text = ""
    for part in fields.list_of("content", most=32):
        kind = part.values.get("type")
        if kind == "input_audio" and not part.has("transcript"):
            part.refuse(
                "transcript",
                "what is said in it; audio comes by input_audio_buffer.append and .commit",
            )
        kind = part.choice("type", tuple(TEXTS[role]))
        where = TEXTS[role][kind]
        piece = part.string(where, longest=MAX_TEXT)
        text += piece
        content.append({"type": kind, where: piece})
    if not text.strip():
        fields.refuse("content", "some text")
    if len(text) > MAX_TEXT:
        fields.refuse("content", f"at most {MAX_TEXT} characters")
    roles: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
    body = {"status": "completed", "role": role, "content": content}
    return body, Message(memory, roles[role], text)


def message_of(item: Item) -> Message:
    """What an item of the conversation is to the model, for a reply with an input of its own."""
    value = item.value
    if value["type"] == "function_call":
        call = ToolCall(value["name"], value["arguments"])
        return Message(item.id, "assistant", "", (call,))
    if value["type"] == "function_call_output":
        return Message(item.id, "tool", value["output"])
    texts = (part.get("text") or part.get("transcript") or "" for part in value["content"])
    role: Role = value["role"]
    return Message(item.id, role, "".join(texts))
