"""Reads a GGUF header (format: ggml/docs/gguf.md), trusting nothing in it: every size is checked against the file.

No llama library, no mmap (a file that shrinks under a mapping kills the process), no vocabulary in memory.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass, field
from typing import BinaryIO

from worker.store.gguf_types import tensor_bytes

Scalar = int | float | bool | str
Value = Scalar | tuple[int, ...]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
# value type -> struct format (little endian)
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_INTEGERS = frozenset("BbHhIiQq?")
_KEY_LONGEST = 65_535  # the format's own limit
_TEXT_LONGEST = 1 << 20  # longer texts are passed over; a chat template has some KB
_LIST_LONGEST = 4096  # per-layer lists are kept, vocabularies passed over
_MOST_DIMS = 4
_KEY_SMALLEST, _TENSOR_SMALLEST = 13, 32  # bytes an entry takes at least, so a count can be checked at once
_SKIP_READ = 1 << 16


class FormatError(ValueError):
    """The file is not a GGUF that can be used; the words say why."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a GGUF says of itself. `meta` has no texts over 1 MiB and, of lists, only short ones of whole numbers.

    `lengths`: how many texts are in each list of texts.
    """

    version: int
    meta: dict[str, Value]
    tensors: int
    parameters: int
    lengths: dict[str, int] = field(default_factory=dict)


def read_header(file: BinaryIO) -> Header:
    """Read and check the header. Blocking I/O; raises FormatError or OSError."""
    cursor = _Cursor(file)
    version = _version(cursor)
    tensors = cursor.count("tensors", _TENSOR_SMALLEST)
    pairs = cursor.count("metadata entries", _KEY_SMALLEST)
    meta: dict[str, Value] = {}
    lengths: dict[str, int] = {}
    for _ in range(pairs):
        key, value = _pair(cursor)
        if isinstance(value, _Passed):
            lengths[key] = value.length
        elif value is not None:
            meta[key] = value
    return Header(version, meta, tensors, _tensors(cursor, tensors, _alignment(meta)), lengths)


@dataclass(frozen=True, slots=True)
class _Passed:
    """A list of texts that was passed over."""

    length: int


class _Cursor:
    """Sequential reads that never go past the end of the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size
        self.at = 0

    def take(self, count: int) -> bytes:
        data = self._file.read(self._room_for(count))
        if len(data) != count:
            raise FormatError("it ends in the middle of its header")
        self.at += count
        return data

    def skip(self, count: int) -> None:
        if count <= _SKIP_READ:  # inside the buffer reading is cheaper than seeking
            self.take(count)
        else:
            self._file.seek(self._room_for(count), os.SEEK_CUR)
            self.at += count

    def number(self, form: str) -> int:
        return int(struct.unpack(f"<{form}", self.take(struct.calcsize(form)))[0])

    def count(self, what: str, smallest: int) -> int:
        """A 64-bit count of things that take at least `smallest` bytes each."""
        count = self.number("Q")
        if count * smallest > self.size - self.at:
            raise FormatError(f"it claims {count} {what}, more than the file has room for")
        return count

    def text(self, longest: int) -> str:
        length = self.count("characters in a text", 1)
        if length > longest:
            raise FormatError(f"a name in it is {length} bytes long")
        try:
            return self.take(length).decode()
        except UnicodeDecodeError:
            raise FormatError("a text in its header is not UTF-8") from None

    def _room_for(self, count: int) -> int:
        if count > self.size - self.at:
            raise FormatError("it ends in the middle of its header")
        return count


def _version(cursor: _Cursor) -> int:
    if cursor.size < len(_MAGIC) or cursor.take(len(_MAGIC)) != _MAGIC:
        raise FormatError("it does not begin with GGUF")
    version = cursor.number("I")
    if version not in _VERSIONS:
        raise FormatError(f"it is of GGUF version {version}; 2 and 3 can be read")
    return version


def _pair(cursor: _Cursor) -> tuple[str, Value | _Passed | None]:
    key = cursor.text(_KEY_LONGEST)
    kind = cursor.number("I")
    if kind == _STRING:
        return key, _text(cursor)
    if kind == _ARRAY:
        return key, _array(cursor)
    form = _form(kind)
    return key, struct.unpack(f"<{form}", cursor.take(struct.calcsize(form)))[0]


def _form(kind: int) -> str:
    if kind not in _SCALARS:
        raise FormatError(f"its metadata holds a value of unknown type {kind}")
    return _SCALARS[kind]


def _text(cursor: _Cursor) -> str | None:
    length = cursor.count("characters in a text", 1)
    if length > _TEXT_LONGEST:
        cursor.skip(length)
        return None
    return cursor.take(length).decode("utf-8", "replace")


def _array(cursor: _Cursor) -> tuple[int, ...] | _Passed | None:
    kind = cursor.number("I")
    if kind == _STRING:
        texts = cursor.count("texts in a list", 8)
        for _ in range(texts):
            cursor.skip(cursor.count("characters in a text", 1))
        return _Passed(texts)
    if kind == _ARRAY:
        raise FormatError("its metadata holds a list of lists")
    form = _form(kind)
    width = struct.calcsize(form)
    length = cursor.count("values in a list", width)
    if length > _LIST_LONGEST or form not in _INTEGERS:
        cursor.skip(length * width)
        return None
    return tuple(map(int, struct.unpack(f"<{length}{form}", cursor.take(length * width))))


def _alignment(meta: dict[str, Value]) -> int:
    alignment = meta.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise FormatError("its general.alignment is not a power of two")
    return alignment


def _tensors(cursor: _Cursor, count: int, alignment: int) -> int:
    """Check that every tensor lies inside the file; return how many values they hold together."""
    parameters = end = 0
    for _ in range(count):
        values, tensor_end = _tensor(cursor)
        parameters += values
        end = max(end, tensor_end)
    data_at = -(-cursor.at // alignment) * alignment
    if count and data_at + end > cursor.size:
        raise FormatError(f"it is cut off: {data_at + end} bytes are needed and {cursor.size} are there")
    return parameters


def _tensor(cursor: _Cursor) -> tuple[int, int]:
    """One tensor's number of values, and where its data ends, counted from the data's beginning."""
    cursor.text(_KEY_LONGEST)
    dims = cursor.number("I")
    if dims > _MOST_DIMS:
        raise FormatError(f"a tensor in it has {dims} dimensions")
    values = math.prod(struct.unpack(f"<{dims}Q", cursor.take(8 * dims)))
    size = tensor_bytes(cursor.number("I"), values)
    return values, cursor.number("Q") + (size or 0)
