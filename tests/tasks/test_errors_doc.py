"""docs/errors.md has every stable code of the source, with its status, and no other."""

from __future__ import annotations

import re

import pytest

from tasks.errors import STATUS_BY_CODE, status_of
from tests.tasks.codes_in_source import ROOT, codes

_ROW = re.compile(r"^\| `([a-z_]+)` \| (\d{3}|–) \| (.+?) \| (.+?) \|$", re.MULTILINE)
PAGE = (ROOT / "docs" / "errors.md").read_text("utf-8")
ROWS = {code: (status, cause, fix) for code, status, cause, fix in _ROW.findall(PAGE)}
SOURCE = codes()


def test_every_code_of_the_source_is_explained():
    named = set(STATUS_BY_CODE) | set(SOURCE)
    assert named - set(ROWS) == set()


def test_no_code_is_explained_that_does_not_exist():
    assert set(ROWS) - set(STATUS_BY_CODE) - set(SOURCE) == set()


def test_each_code_is_explained_once():
    lines = re.findall(r"^\| `([a-z_]+)`", PAGE, re.MULTILINE)
    assert sorted(lines) == sorted(ROWS)
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize("code", sorted(ROWS))
def test_the_status_is_the_one_that_is_sent(code):
    assert ROWS[code][0] == (str(status_of(code)) if code in STATUS_BY_CODE else "–")


def test_a_code_without_a_status_never_leaves_a_terminal():
    """What a worker or the API raises must have a status of its own, not the fallback."""
    rooms = {code: paths for code, paths in SOURCE.items() if code not in STATUS_BY_CODE}
    outside = {
        code: path
        for code, paths in rooms.items()
        for path in paths
        if path.startswith(("bridge/", "worker/engine", "worker/store", "worker/backends", "worker/chat"))
    }
    assert outside == {}


def test_the_scan_finds_codes_however_they_are_written():
    assert {"draining", "port_taken", "worker_lost", "checksum_mismatch"} <= set(SOURCE)
