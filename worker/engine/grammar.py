"""Grammars while sampling: which tokens may come next, as a mask over a sequence's logits.

llguidance does the work (docs/decisions/0005-structured-output.md). A `GrammarVocab` is made once a model, a
`Constraint` once a sequence. Per step and constrained sequence the engine calls `mask(row)` before it samples and
`accept(token)` after; between `accept` and the next `mask` it may `prepare` (on any one thread, the GIL is released),
so that the mask is ready when the logits are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from llama_cpp import llama_cpp as lib
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from tasks.errors import BadRequestError

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

_LIMITS = LLParserLimits(step_max_items=200_000, verbose_errors=False)  # errors must not quote the grammar or text
_MINUS_INF = np.float32(-np.inf)
_FULL = np.uint32(0xFFFFFFFF)
_FEW = 8
"""Up to one word of the mask in so many touched: write token by token; more: write the whole row."""

_Mask = npt.NDArray[np.uint32]
_BITS = np.arange(32, dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class _Choice:
    """A mask as it is best applied: only these ids (`keep`), all but these ids (`drop`), or as a row of booleans."""

    keep: Ids | None = None
    drop: Ids | None = None
    banned: npt.NDArray[np.bool_] | None = None

    def apply(self, row: Floats) -> Ids | None:
        if self.keep is not None:
            kept = row[self.keep]
            row.fill(_MINUS_INF)
            row[self.keep] = kept
        elif self.drop is not None:
            row[self.drop] = _MINUS_INF
        elif self.banned is not None:
            np.copyto(row, _MINUS_INF, where=self.banned)
        return self.keep


class GrammarVocab:
    """A model's tokens as grammars see them. Immutable; safe from any thread. Takes about 3 µs a token to make.

    `pieces`: each token's bytes. `special`: tokens that no text in a grammar may match, such as other roles' turn
    markers; markers that are part of a reply's format (`<tool_call>`, `[TOOL_CALLS]`, `<|channel|>`) must not be
    among them. `eog`: tokens that end a reply, allowed exactly where the grammar may end, whatever their text.
    """

    def __init__(self, pieces: Sequence[bytes], *, eog: Iterable[int], special: Iterable[int]) -> None:
        ends = sorted(eog)
        if not ends:
            raise BadRequestError("this model has no token that ends a reply: it cannot follow a grammar")
        self.size = len(pieces)
        tokens = TokenizerWrapper(_Tokens(list(pieces), ends[0], sorted({*special, *ends})))
        self._tokenizer = LLTokenizer(tokens, eos_token=ends)
        self._words = (self.size + 31) // 32

    @classmethod
    def read(cls, vocab: Any, *, eog: Iterable[int], markers: Iterable[str] = ()) -> Self:
        """From a `llama_vocab` pointer. `markers`: control tokens that grammars may write out as text."""
        size: int = lib.llama_vocab_n_tokens(vocab)
        control = [t for t in range(size) if lib.llama_vocab_get_attr(vocab, t) & lib.LLAMA_TOKEN_ATTR_CONTROL]
        pieces = [_piece(vocab, token) for token in range(size)]
        written = {marker.encode() for marker in markers}
        return cls(pieces, eog=eog, special=[token for token in control if pieces[token] not in written])

    def constraint(self, grammar: str, accepted: Iterable[int] = ()) -> Constraint:
        """Start to follow `grammar` (text of `worker.chat.structured`), at the point after the `accepted` tokens.

        Raises BadRequestError `bad_grammar` when the grammar does not compile for this vocabulary, or does not
        allow the accepted tokens.
        """
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=_LIMITS)
        if matcher.is_error():
            raise _error(f"the grammar cannot be compiled: {_first_line(matcher)}")
        constraint = Constraint(matcher, self.size, self._words)
        for token in accepted:
            constraint.accept(token)
        return constraint


class Constraint:
    """One sequence's place in its grammar. One thread at a time."""

    def __init__(self, matcher: LLMatcher, size: int, words: int) -> None:
        self._matcher = matcher
        self._size = size
        self._bits = np.zeros(words, dtype=np.uint32)
        self._seen: bytes = b""
        self._choice = _Choice()
        self._ready = False

    @property
    def is_done(self) -> bool:
        """Nothing but the end may follow: stop now, without waiting for a token that says so."""
        return self._matcher.is_stopped()

    @property
    def is_accepting(self) -> bool:
        """What was accepted so far is a whole sentence of the grammar."""
        return self._matcher.is_accepting()

    def prepare(self) -> None:
        """Find the tokens that may come next, if that is not done yet. Errors are raised by `mask`."""
        if self._ready or self._matcher.is_error():
            return
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        seen = self._bits.tobytes()
        if seen != self._seen:
            self._seen, self._choice = seen, _choice(self._bits, self._size)
        self._ready = True

    def mask(self, row: Floats) -> Ids | None:
        """Set the logits of forbidden tokens to -inf, in place; when few are left, returns their ids.

        Raises BadRequestError `bad_grammar` when no token may follow, or finding them takes too much.
        """
        self.prepare()
        if self._matcher.is_error():
            raise _error(f"the grammar leads nowhere or is too ambiguous: {_first_line(self._matcher)}")
        return self._choice.apply(row)

    def allows(self, token: int) -> bool:
        """Whether `token` may come next; changes nothing and needs no mask."""
        return self._matcher.validate_tokens([token]) == 1

    def accept(self, token: int) -> None:
        """`token` was chosen. Raises BadRequestError `bad_grammar` when the grammar does not allow it."""
        self._ready = False
        if not self._matcher.try_consume_tokens([token]):
            raise _error("the text generated so far does not follow the grammar")

    def rollback(self, count: int) -> None:
        """Take back the last `count` accepted tokens (drafts that were refused)."""
        self._ready = False
        if not self._matcher.rollback(count):
            raise AssertionError(f"cannot take back {count} tokens")

    def clone(self) -> Constraint:
        """An independent copy at the same place (one prompt, several choices)."""
        return Constraint(self._matcher.deep_copy(), self._size, len(self._bits))


class MaskAhead:
    """Computes masks on a thread of its own while the engine thread is inside `llama_decode`."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="grammar")
        self._running: Future[None] | None = None

    def start(self, constraints: Sequence[Constraint]) -> None:
        """Returns at once. Until `wait`, nobody else may touch the constraints."""
        if constraints:
            self._running = self._pool.submit(_prepare_all, constraints)

    def wait(self) -> None:
        """Block until the masks that were started are there."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def close(self) -> None:
        self._pool.shutdown()


class _Tokens:
    """What llguidance asks of a tokenizer. Its own encoding is only used to guess tokens ahead, which we do not."""

    bos_token_id = None

    def __init__(self, tokens: list[bytes], eos: int, special: list[int]) -> None:
        self.tokens = tokens
        self.eos_token_id = eos
        self.special_token_ids = special
        self._ids: dict[bytes, int] = {}
        for token, piece in enumerate(tokens):
            if len(piece) == 1:
                self._ids.setdefault(piece, token)

    def __call__(self, text: bytes) -> list[int]:
        return [self._ids[text[i : i + 1]] for i in range(len(text)) if text[i : i + 1] in self._ids]


def _prepare_all(constraints: Sequence[Constraint]) -> None:
    for constraint in constraints:
        constraint.prepare()


def _choice(bits: _Mask, size: int) -> _Choice:
    allowed = np.flatnonzero(bits)
    if len(allowed) * _FEW <= len(bits):
        return _Choice(keep=_ids(bits, allowed, size))
    forbidden = np.flatnonzero(bits != _FULL)
    if len(forbidden) * _FEW <= len(bits):
        return _Choice(drop=_ids(~bits, forbidden, size))
    return _Choice(banned=np.unpackbits(~bits.view(np.uint8), bitorder="little", count=size).view(np.bool_))


def _ids(bits: _Mask, words: Ids, size: int) -> Ids:
    """Numbers of the bits that are set in these words."""
    word, bit = np.nonzero((bits[words, None] >> _BITS) & 1)
    ids: Ids = words[word] * 32 + bit
    return ids[ids < size]


def _piece(vocab: Any, token: int) -> bytes:
    room = 256
    while True:
        buffer = ctypes.create_string_buffer(room)
        count: int = lib.llama_token_to_piece(vocab, token, buffer, room, 0, True)  # noqa: FBT003  # a C call
        if count >= 0:
            return buffer.raw[:count]
        room = -count


def _first_line(matcher: LLMatcher) -> str:
    return matcher.get_error().strip().partition("\n")[0][:200]


def _error(message: str) -> BadRequestError:
    return BadRequestError(message, code="bad_grammar", param="grammar")
