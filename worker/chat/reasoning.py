"""What a model thinks, split from what it says: `<think>` tags and their like, and gpt-oss's channels. Pure.

Text may be fed in any pieces; the result is the same. A tag that could just be beginning is held back. Only tags,
and blanks beside them, are taken away from the text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Channel(StrEnum):
    """CALL is a gpt-oss message to a tool, with its header, for `worker.chat.toolcalls`; content to anyone else."""

    REASONING = "reasoning"
    CONTENT = "content"
    CALL = "call"


Piece = tuple[Channel, str]


@dataclass(frozen=True, slots=True)
class ReasoningStyle:
    """How a model marks its reasoning; `harmony` for gpt-oss's channels (`opening` and `closing` unused)."""

    opening: str = "<think>"
    closing: str = "</think>"
    harmony: bool = False

    @property
    def markers(self) -> tuple[str, ...]:
        """Tokens whose text the parser must see, although they are control tokens."""
        return HARMONY_MARKERS if self.harmony else (self.opening, self.closing)

    @property
    def answer_header(self) -> str:
        """What `prelude` leaves out with `call`, as a Lark expression: a gpt-oss answer's own header."""
        return _HARMONY_FINAL.strip() if self.harmony else ""

    def opened_by(self, prompt: str) -> bool:
        """Whether the rendered prompt ends inside the reasoning: the template wrote the opening tag."""
        return not self.harmony and prompt.rstrip().endswith(self.opening)

    def splitter(self, prompt: str = "") -> Splitter:
        """A new one for one reply to the rendered `prompt`."""
        return HarmonySplitter() if self.harmony else TagSplitter(self, opened=self.opened_by(prompt))

    def prelude(self, prompt: str = "", *, call: bool = False) -> str:
        """Lark rules for `Compiled.grammar`: the reasoning that may come before a constrained reply.

        `call`: what follows is a tool call, which brings its own header (gpt-oss).
        """
        if self.harmony:
            return _HARMONY_PRELUDE.format(header="" if call else _HARMONY_FINAL)
        thought = f"thought[lazy]: /(?s:.)*{_regex(self.closing)}/\nGAP: /[ \\n]{{1,4}}/\n"
        if self.opened_by(prompt):
            return f"prelude: thought GAP?\n{thought}"
        return f"prelude: ({json.dumps(self.opening)} thought GAP?)?\n{thought}"


HARMONY_MARKERS = ("<|start|>", "<|end|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|call|>", "<|return|>")
HARMONY = ReasoningStyle(harmony=True)
_TAGS = (
    ReasoningStyle(),
    ReasoningStyle("[THINK]", "[/THINK]"),
    ReasoningStyle("<seed:think>", "</seed:think>"),
    ReasoningStyle("<|START_THINKING|>", "<|END_THINKING|>"),
    ReasoningStyle("<|inner_prefix|>", "<|inner_suffix|>"),
    ReasoningStyle("◁think▷", "◁/think▷"),
    ReasoningStyle("<thinking>", "</thinking>"),
    ReasoningStyle("<reasoning>", "</reasoning>"),
)
_HARMONY_PRELUDE = (
    'prelude: ("<|channel|>analysis<|message|>" thought "<|start|>assistant")*{header}\n'
    "thought[lazy]: /(?s:.)*<\\|end\\|>/\n"
)
_HARMONY_FINAL = ' "<|channel|>final" (" <|constrain|>json")? "<|message|>"'


def detect_reasoning(template: str, architecture: str = "") -> ReasoningStyle | None:
    """The style a chat template speaks; None when it has none. The template's own text decides."""
    if "<|channel|>" in template and "<|message|>" in template:
        return HARMONY
    for style in _TAGS:
        if style.closing in template or style.opening in template:
            return style
    return HARMONY if architecture == "gpt-oss" else None


class Splitter(Protocol):
    """One reply's text, split. `reasoning_tokens` counts the tokens fed while the reply was reasoning."""

    reasoning_tokens: int

    @property
    def reasoning(self) -> bool:
        """The text so far ends inside the reasoning (notice `truncated_during_reasoning` when it ends here)."""

    def feed(self, text: str, tokens: int = 0) -> list[Piece]:
        """More text, and how many tokens it took. Returns what can be told apart now, in order."""

    def finish(self) -> list[Piece]:
        """No more text: what was held back."""


class _Step(StrEnum):
    START = "start"
    THOUGHT = "thought"
    CONTENT = "content"


class TagSplitter:
    """`<think>` and the like: at most one block, at the beginning; whatever comes after it is content.

    `opened`: the prompt ends inside the block. Some models open it again; that is no text.
    """

    def __init__(self, style: ReasoningStyle, *, opened: bool = False) -> None:
        self._style = style
        self._opened = opened
        self._step = _Step.START
        self._held = ""
        self._blanks = False  # beside a tag, that is: part of it
        self._out: list[Piece] = []
        self.reasoning_tokens = 0

    @property
    def reasoning(self) -> bool:
        return self._step is _Step.THOUGHT or (self._opened and self._step is _Step.START)

    def feed(self, text: str, tokens: int = 0) -> list[Piece]:
        if self.reasoning:
            self.reasoning_tokens += tokens
        self._held += text
        self._settle(final=False)
        return self._take()

    def finish(self) -> list[Piece]:
        self._settle(final=True)
        self._emit(Channel.REASONING if self.reasoning else Channel.CONTENT, len(self._held))
        return self._take()

    def _settle(self, *, final: bool) -> None:
        """Each step may lead to the next with the text at hand."""
        if self._step is _Step.START:
            self._start(final=final)
        if self._step is _Step.THOUGHT:
            self._think(final=final)
        if self._step is _Step.CONTENT and self._trimmed():
            self._emit(Channel.CONTENT, len(self._held))

    def _start(self, *, final: bool) -> None:
        bare, opening = self._held.lstrip(), self._style.opening
        if bare.startswith(opening):
            self._held = bare[len(opening) :]
            self._move(_Step.THOUGHT)
        elif final or not opening.startswith(bare):
            self._step = _Step.CONTENT
            if self._opened:
                self._move(_Step.THOUGHT)

    def _think(self, *, final: bool) -> None:
        if not self._trimmed():
            return
        closing = self._style.closing
        end = self._held.find(closing)
        if end >= 0:
            self._emit(Channel.REASONING, len(self._held[:end].rstrip()))
            self._held = self._held.lstrip()[len(closing) :]
            self._move(_Step.CONTENT)
        elif not final:
            self._emit(Channel.REASONING, len(self._held[: len(self._held) - _overlap(self._held, closing)].rstrip()))

    def _move(self, step: _Step) -> None:
        self._step = step
        self._blanks = True

    def _trimmed(self) -> bool:
        """Take blanks beside a tag away; whether anything is left."""
        if self._blanks:
            self._held = self._held.lstrip()
            self._blanks = not self._held
        return bool(self._held)

    def _emit(self, channel: Channel, count: int) -> None:
        if count:
            self._out.append((channel, self._held[:count]))
            self._held = self._held[count:]

    def _take(self) -> list[Piece]:
        out, self._out = self._out, []
        return out


class HarmonySplitter:
    """gpt-oss: messages with a channel each. The prompt ends with `<|start|>assistant`.

    analysis is reasoning, final and commentary are content, a message with a recipient (`to=functions.x`) is a CALL,
    header and body as they stand. Text that is not in any message is content.
    """

    def __init__(self) -> None:
        self._held = ""
        self._channel: Channel | None = None  # None: in a header, or between messages
        self._out: list[Piece] = []
        self.reasoning_tokens = 0

    @property
    def reasoning(self) -> bool:
        return self._channel is Channel.REASONING

    def feed(self, text: str, tokens: int = 0) -> list[Piece]:
        if self.reasoning:
            self.reasoning_tokens += tokens
        self._held += text
        while self._header() if self._channel is None else self._body():
            pass
        return self._take()

    def finish(self) -> list[Piece]:
        """What looks like an unfinished header is no header: it is text."""
        self._emit(self._channel or Channel.CONTENT, self._held)
        self._held = ""
        return self._take()

    def _header(self) -> bool:
        match = _HEADER.match(self._held)
        if match is not None and match.end() <= _MOST_HEADER:
            self._held = self._held[match.end() :]
            self._channel = _channel_of(match)
            if self._channel is Channel.CALL:
                self._emit(Channel.CALL, match.group())
            return True
        if self._held and not _could_be_header(self._held):
            self._channel = Channel.CONTENT
            return True
        return False

    def _body(self) -> bool:
        end = _ENDS.search(self._held)
        if end is None:
            cut = len(self._held) - max(_overlap(self._held, marker) for marker in _END_MARKERS)
            self._emit(self._channel or Channel.CONTENT, self._held[:cut])
            self._held = self._held[cut:]
            return False
        whole = self._channel is Channel.CALL
        self._emit(self._channel or Channel.CONTENT, self._held[: end.end() if whole else end.start()])
        self._held = self._held[end.end() :]
        self._channel = None
        return True

    def _emit(self, channel: Channel, text: str) -> None:
        if text:
            self._out.append((channel, text))

    def _take(self) -> list[Piece]:
        out, self._out = self._out, []
        return out


_END_MARKERS = ("<|end|>", "<|call|>", "<|return|>")
_ENDS = re.compile("|".join(map(re.escape, _END_MARKERS)))
_MOST_HEADER = 512
_TO = r"[ ]to=[^<\s]+"
_HEADER = re.compile(
    rf"(?:<\|start\|>assistant)?(?P<to>{_TO})?"
    rf"(?:<\|channel\|>(?P<channel>[a-z]*)(?P<to2>{_TO})?(?:[ ]?(?:<\|constrain\|>)?[\w-]+)?[ ]*)*<\|message\|>"
)


def _channel_of(header: re.Match[str]) -> Channel:
    recipient = header["to"] or header["to2"]
    if recipient and recipient.strip() != "to=assistant":
        return Channel.CALL
    return Channel.REASONING if header["channel"] == "analysis" else Channel.CONTENT


def _could_be_header(text: str) -> bool:
    """Whether more text could make this a header: it begins with a marker or a recipient, or may yet."""
    if len(text) > _MOST_HEADER:
        return False
    starts = ("<|start|>assistant", "<|channel|>", "<|message|>", " to=")
    return any(text.startswith(start) or start.startswith(text) for start in starts)


def _overlap(text: str, marker: str) -> int:
    """Length of the longest end of `text` that begins `marker`."""
    for length in range(min(len(marker) - 1, len(text)), 0, -1):
        if marker.startswith(text[-length:]):
            return length
    return 0


def _regex(text: str) -> str:
    """For a Lark regex."""
    return re.escape(text).replace("/", "\\/")
