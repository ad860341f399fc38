"""Whatever is done to an audit log is found: by the chain, or by a checkpoint that was kept elsewhere."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.audit_chain import AuditEntry, Checkpoint, Head, digest_of, sign, write_line
from bridge.audit_verify import Fault, verify
from bridge.identity import Identity, generate_seed
from tasks.contract import Usage

US = Identity.from_base64(generate_seed())
THEM = Identity.from_base64(generate_seed())
LOG = "wrk-0a1b2c3d"


def entry(number: int) -> AuditEntry:
    return AuditEntry(
        at=1_790_000_000.0 + number,
        job_id=f"req_{number}",
        tenant="key-1",
        kind="chat",
        model="smollm2:135m",
        model_sha256="ab" * 32,
        worker_id="wrk-0a1b2c3d-cpu0",
        outcome="finished",
        code="",
        sealed=False,
        attempts=1,
        ms=12,
        usage=Usage(prompt_tokens=3, completion_tokens=number),
    )


def chain(count: int, head: Head | None = None) -> list[bytes]:
    lines, head = [], head or Head()
    for number in range(count):
        line, head = write_line(head, entry(number).fields())
        lines.append(line.rstrip(b"\n"))
    return lines


def checkpoint(lines: list[bytes], number: int, by: Identity = US) -> Checkpoint:
    return sign(by, LOG, Head(number, digest_of(lines[number])), 1_790_000_100.0)


def faults(lines: list[bytes], *checkpoints: Checkpoint) -> list[Fault]:
    return [finding.fault for finding in verify(lines, checkpoints, {US.public_key}).findings]


WHOLE = chain(10)
END = checkpoint(WHOLE, 9)


def test_a_whole_log() -> None:
    report = verify(WHOLE, [checkpoint(WHOLE, 4), checkpoint(WHOLE, 7)], {US.public_key})
    assert report.whole
    assert (report.lines, report.first, report.head.line) == (10, 0, 9)
    assert (report.checkpoints, report.uncovered) == (2, 2)


def test_a_line_says_who_when_what_and_how_it_ended_and_nothing_else() -> None:
    row = json.loads(WHOLE[3])
    assert list(row) == [
        "n", "prev", "event", "time", "job", "tenant", "kind", "model", "model_sha256", "worker", "outcome", "code",
        "sealed", "attempts", "ms", "prompt_tokens", "completion_tokens",
    ]  # fmt: skip
    assert (row["n"], row["prev"], row["completion_tokens"]) == (3, digest_of(WHOLE[2]), 3)


@pytest.mark.parametrize("number", range(10))
def test_an_edited_line(number: int) -> None:
    lines = list(WHOLE)
    lines[number] = lines[number].replace(b'"tenant":"key-1"', b'"tenant":"key-2"')
    assert faults(lines, END) == [Fault.REWRITTEN if number == 9 else Fault.CHANGED]


@pytest.mark.parametrize("number", range(1, 9))
def test_a_removed_line(number: int) -> None:
    assert faults(WHOLE[:number] + WHOLE[number + 1 :], END) == [Fault.MISSING]


def test_the_first_lines_are_gone() -> None:
    assert faults(WHOLE[1:], END) == [Fault.BEGINNING]


@pytest.mark.parametrize("kept", range(9))
def test_a_log_that_was_cut_off(kept: int) -> None:
    assert faults(WHOLE[: kept + 1], END) == [Fault.TRUNCATED]


def test_an_empty_log_that_was_not() -> None:
    assert faults([], END) == [Fault.TRUNCATED]


def test_lines_that_changed_places() -> None:
    lines = list(WHOLE)
    lines[3], lines[5] = lines[5], lines[3]
    assert Fault.MISSING in faults(lines, END)


def test_a_log_written_anew() -> None:
    """The chain is right in itself; only the checkpoint knows."""
    other = chain(10, Head())
    rewritten = [write_line(Head(), {"event": "request"})[0].rstrip(b"\n")]
    head = Head(0, digest_of(rewritten[0]))
    for row in other[1:]:
        line, head = write_line(head, {k: v for k, v in json.loads(row).items() if k not in ("n", "prev")})
        rewritten.append(line.rstrip(b"\n"))
    assert faults(rewritten, END) == [Fault.REWRITTEN]
    assert faults(rewritten) == [Fault.UNCHECKED]


def test_a_line_that_is_nonsense() -> None:
    assert Fault.UNREADABLE in faults([*WHOLE[:4], b"pelican", *WHOLE[5:]], END)


def test_checkpoints_of_somebody_else_and_forged_ones() -> None:
    forged = END.model_copy(update={"head": "0" * 64})
    assert faults(WHOLE, checkpoint(WHOLE, 9, by=THEM)) == [Fault.UNSIGNED, Fault.UNCHECKED]
    assert faults(WHOLE, END, forged) == [Fault.UNSIGNED]


def test_two_checkpoints_that_contradict_each_other() -> None:
    assert faults(WHOLE, END, sign(US, LOG, Head(9, "0" * 64), 1.0)) == [Fault.REWRITTEN]


def test_what_the_retention_removed_is_no_loss() -> None:
    head = Head(9, digest_of(WHOLE[9]))
    row = {"event": "retention", "time": 1.0, "through": 4, "head": digest_of(WHOLE[4])}
    line, _ = write_line(head, row)
    kept = [*WHOLE[5:], line.rstrip(b"\n")]
    assert faults(kept, checkpoint(WHOLE, 4), END) == []
    assert faults(kept[1:], END) == [Fault.BEGINNING], "one more than the retention said"


@settings(max_examples=200, deadline=None)
@given(number=st.integers(0, 9), where=st.integers(0, 10_000), byte=st.integers(0, 255), covered=st.just(END))
def test_no_single_byte_can_be_changed(number: int, where: int, byte: int, covered: Checkpoint) -> None:
    line = bytearray(WHOLE[number])
    if line[where % len(line)] == byte or byte == ord("\n"):
        return
    line[where % len(line)] = byte
    assert faults([*WHOLE[:number], bytes(line), *WHOLE[number + 1 :]], covered)
