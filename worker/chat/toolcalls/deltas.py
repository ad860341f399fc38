"""What comes out of a tool call parser, and the ids of calls. Pure."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Callable
from dataclasses import dataclass, field

from tasks.contract import JsonObject


@dataclass(frozen=True, slots=True)
class Content:
    """Text for the reader."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CallStart:
    """The first delta of call `index`: its name is known."""

    index: int
    id: str
    name: str

    def openai(self) -> JsonObject:
        function = {"name": self.name, "arguments": ""}
        return {"index": self.index, "id": self.id, "type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of the JSON text of call `index`'s arguments."""

    index: int
    fragment: str = field(repr=False)

    def openai(self) -> JsonObject:
        return {"index": self.index, "function": {"arguments": self.fragment}}


Delta = Content | CallStart | CallArguments
CallIds = Callable[[int], str]

_ALPHABET = string.ascii_letters + string.digits


def call_ids(seed: str, *, short: bool = False) -> CallIds:
    """Ids for the calls of one reply: the same seed and index give the same id, so that another attempt at a job
    repeats them. `short`: nine letters and digits, all that Mistral's templates accept."""

    def make(index: int) -> str:
        digest = hashlib.sha256(f"{seed}/{index}".encode()).digest()
        if short:
            return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:9])
        return f"call_{digest.hex()[:24]}"

    return make


def assembled(deltas: list[Delta]) -> tuple[str, list[JsonObject]]:
    """A whole reply's content and `tool_calls`, for answers that are not streamed."""
    content = "".join(delta.text for delta in deltas if isinstance(delta, Content))
    calls: list[JsonObject] = []
    for delta in deltas:
        if isinstance(delta, CallStart):
            calls.append({"id": delta.id, "type": "function", "function": {"name": delta.name, "arguments": ""}})
        elif isinstance(delta, CallArguments):
            calls[delta.index]["function"]["arguments"] += delta.fragment
    return content, calls
