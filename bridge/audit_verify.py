"""Is an audit log whole? Reads lines and checkpoints, finds what was changed, removed, moved or cut off. Pure.

What it cannot see: lines after the newest checkpoint that were cut off (`uncovered` says how many it would be at
most: those written since), and requests that a manipulated bridge never wrote down.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bridge.audit_chain import Checkpoint, Head, digest_of

MAX_FINDINGS = 100


class Fault(StrEnum):
    UNREADABLE = "unreadable"  # a line is no JSON object with n and prev
    CHANGED = "changed"  # a line is not the one that the next line was written after
    MISSING = "missing"  # numbers jump: lines were removed, or moved
    BEGINNING = "beginning"  # the log's first lines are gone, and no retention says so
    REWRITTEN = "rewritten"  # a checkpoint knew another line under that number
    TRUNCATED = "truncated"  # a checkpoint knew lines after the last one
    UNSIGNED = "unsigned"  # a checkpoint's signature is wrong, or of a key that is not trusted
    UNCHECKED = "unchecked"  # there is no checkpoint at all


@dataclass(frozen=True, slots=True)
class Finding:
    """`line`: its number in the log. `words` hold nothing of a request."""

    fault: Fault
    line: int
    words: str


@dataclass(slots=True)
class Report:
    """`uncovered`: lines after the newest good checkpoint, which nothing but the chain protects yet."""

    lines: int = 0
    first: int = 0
    head: Head = field(default_factory=Head)
    checkpoints: int = 0
    uncovered: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return not self.findings


def verify(lines: Iterable[bytes], checkpoints: Iterable[Checkpoint], trusted: Container[str]) -> Report:
    """`lines` without newlines, in order; `trusted`: public keys whose checkpoints count."""
    report = Report()
    good = _good(checkpoints, trusted, report)
    _walk(lines, {one.line: one for one in good}, report)
    newest = max((one.line for one in good), default=-1)
    if newest > report.head.line:
        words = f"a checkpoint knew line {newest}; the log ends with {report.head.line}"
        _add(report, Fault.TRUNCATED, report.head.line, words)
    elif not good:
        _add(report, Fault.UNCHECKED, -1, "there is no checkpoint to compare the log with")
    report.uncovered = max(0, report.head.line - newest)
    return report


def _good(checkpoints: Iterable[Checkpoint], trusted: Container[str], report: Report) -> list[Checkpoint]:
    """Those that a trusted key signed; two of them that contradict each other are a finding."""
    good: dict[int, Checkpoint] = {}
    for one in checkpoints:
        if one.public_key not in trusted or not one.signed:
            _add(report, Fault.UNSIGNED, one.line, "a checkpoint is not signed by a key that is trusted here")
        elif one.line in good and good[one.line].head != one.head:
            _add(report, Fault.REWRITTEN, one.line, "two checkpoints know different lines under one number")
        else:
            good[one.line] = one
    report.checkpoints = len(good)
    return list(good.values())


def _walk(lines: Iterable[bytes], by_line: Mapping[int, Checkpoint], report: Report) -> None:
    expected: Head | None = None
    beginning = Head()
    let_go = -1
    for line in lines:
        row = _row(line)
        if row is None:
            number = expected.line + 1 if expected else 0
            _add(report, Fault.UNREADABLE, number, "the line cannot be read")
            row = {"n": number, "prev": None}
        number = row["n"]
        if expected is None:
            report.first, beginning = number, Head(number - 1, row["prev"] or "")
        else:
            _link(expected, row, report)
        if row.get("event") == "retention" and isinstance(row.get("through"), int):
            let_go = max(let_go, row["through"])
        expected = Head(number, digest_of(line))
        report.lines += 1
        _compare(by_line.get(number), expected, report)
    report.head = expected or Head()
    _begins(beginning, let_go, by_line.get(beginning.line), report)


def _link(before: Head, row: Mapping[str, Any], report: Report) -> None:
    if row["n"] != before.line + 1:
        _add(report, Fault.MISSING, row["n"], f"line {row['n']} follows line {before.line}")
    elif row["prev"] is not None and row["prev"] != before.digest:
        _add(report, Fault.CHANGED, before.line, "it is not the line that the next one was written after")


def _compare(known: Checkpoint | None, here: Head, report: Report) -> None:
    if known is not None and known.head != here.digest:
        _add(report, Fault.REWRITTEN, here.line, "a checkpoint knew another line under this number")


def _begins(beginning: Head, let_go: int, known: Checkpoint | None, report: Report) -> None:
    """The first line must be the log's very first, or the first that the retention left."""
    if beginning == Head() or report.lines == 0:
        return
    if beginning.line == -1 or beginning.line > let_go:
        words = f"the log begins with line {beginning.line + 1}, and no retention removed what was before"
        _add(report, Fault.BEGINNING, beginning.line + 1, words)
    elif known is not None and known.head != beginning.digest:
        _add(report, Fault.REWRITTEN, beginning.line, "a checkpoint knew another line before the first one here")


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    shaped = isinstance(row, dict) and type(row.get("n")) is int and isinstance(row.get("prev"), str)
    return row if shaped else None


def _add(report: Report, fault: Fault, line: int, words: str) -> None:
    if len(report.findings) < MAX_FINDINGS:
        report.findings.append(Finding(fault, line, words))
