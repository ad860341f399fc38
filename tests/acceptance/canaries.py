"""Words that exist nowhere else, and every shape in which they could be lying about."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Mapping

PLANTED = "plantedcanary"
"""What a look must find, to show that it looks."""


class Canaries:
    """`words["chat"]` is a new word at its first use; what it was for is in it, so that a finding explains itself."""

    def __init__(self) -> None:
        self.all: dict[str, bytes] = {}

    def __getitem__(self, path: str) -> str:
        if path not in self.all:
            self.all[path] = f"zq{path}{secrets.token_hex(6)}".encode()
        return self.all[path].decode()

    def keep(self, name: str, secret: bytes) -> None:
        """A secret that is there already: a key."""
        self.all[name] = secret

    def asking(self, path: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": f"Say something about {self[path]} please."}]


def shapes(word: bytes) -> tuple[bytes, ...]:
    """As it is, in hex, in UTF-16, and in base64 wherever in a longer text it may stand."""
    coded = [
        base64.b64encode(bytes(shift) + word + bytes(2))[-(-shift * 8 // 6) : (shift + len(word)) * 8 // 6]
        for shift in range(3)  # the characters that follow from the word alone
    ]
    return (word, word.hex().encode(), word.decode("latin-1").encode("utf-16-le"), *coded)


def found(canaries: Mapping[str, bytes], evidence: Iterable[tuple[str, bytes]]) -> list[str]:
    """Which word lies where."""
    rows = [(name, shape) for name, word in canaries.items() for shape in shapes(word)]
    return [f"{name} in {place}" for place, data in evidence for name, shape in rows if shape in data]
