"""Reads a Dockerfile as far as ours go: instructions, stages, options like `--from=` and `--mount=`. Pure.

No here-documents and no parser directives; what is not understood is an error rather than a guess.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_OPTION = re.compile(r"--([a-z]+)=(\S+)\s+")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_KNOWN = {"ARG", "CMD", "COPY", "ENV", "FROM", "RUN", "USER", "WORKDIR"}


class DockerfileError(Exception):
    """Something in the file that is not understood."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """`RUN --mount=… text`: `options` in order, `text` is what follows them."""

    kind: str
    text: str
    options: tuple[tuple[str, str], ...] = ()

    def option(self, name: str) -> str | None:
        return next((value for key, value in self.options if key == name), None)


@dataclass(frozen=True, slots=True)
class Stage:
    """From one FROM to the next."""

    base: str
    name: str | None
    steps: tuple[Instruction, ...] = field(default=())


def stages(text: str) -> list[Stage]:
    """The stages of a Dockerfile. Raises DockerfileError."""
    found: list[Stage] = []
    for one in instructions(text):
        if one.kind == "FROM":
            base, _, name = (part.strip() for part in re.split(r"(?i)(\s+AS\s+|$)", one.text, maxsplit=1))
            found.append(Stage(base, name or None))
        elif not found:
            raise DockerfileError(f"{one.kind} before the first FROM")
        else:
            found[-1] = Stage(found[-1].base, found[-1].name, (*found[-1].steps, one))
    return found


def instructions(text: str) -> Iterator[Instruction]:
    for line in _joined(text):
        kind, _, rest = line.partition(" ")
        if kind not in _KNOWN:
            raise DockerfileError(f"{kind} is not an instruction that is understood here")
        options: list[tuple[str, str]] = []
        rest = rest.strip()
        while match := _OPTION.match(rest):
            options.append((match[1], match[2]))
            rest = rest[match.end() :]
        yield Instruction(kind, rest, tuple(options))


def expand(text: str, env: dict[str, str]) -> str:
    """`$NAME` and `${NAME}` replaced, as ENV, WORKDIR and COPY have it."""
    return _VARIABLE.sub(lambda match: env.get(match[1] or match[2], ""), text)


def assignments(text: str) -> dict[str, str]:
    """`A=1 B="two words"` of ENV and ARG (an ARG without a value is left out)."""
    pairs = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', text)
    return {name: json.loads(value) if value.startswith('"') else value for name, value in pairs}


def command(text: str) -> list[str]:
    """The argv of a CMD, COPY or RUN in either form."""
    if text.startswith("["):
        return [str(part) for part in json.loads(text)]
    return ["/bin/sh", "-c", text]


def _joined(text: str) -> Iterator[str]:
    """Lines with their continuations, without comments."""
    kept = ""
    for raw in text.splitlines():
        if raw.lstrip().startswith("#") or (not raw.strip() and not kept):
            continue
        kept += raw.strip()
        if kept.endswith("\\"):
            kept = kept[:-1].rstrip() + " "
            continue
        yield kept
        kept = ""
