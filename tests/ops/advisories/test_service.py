"""The OSV service on loopback, as pip-audit asks it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from ops.advisories.records import Book, read_kept
from ops.advisories.service import MAX_QUERY_BYTES, answer, serving

KEPT = Book(read_kept().advisories)


def asked(version: str = "2.10", **package: Any) -> bytes:
    return json.dumps({"package": {"name": "Jinja2", "ecosystem": "PyPI"} | package, "version": version}).encode()


def test_it_answers_as_osv_does() -> None:
    with serving(KEPT) as url:
        found = httpx.post(url, content=asked()).json()["vulns"]
        assert "CVE-2019-10906" in [each["id"] for each in found]
        assert found[0]["affected"][0]["package"] == {"name": "jinja2", "ecosystem": "PyPI"}
        assert httpx.post(url, content=asked("3.1.6")).json() == {}
        assert httpx.post(url.replace("query", "other"), content=asked()).status_code == 404
        assert httpx.post(url, content=b" " * (MAX_QUERY_BYTES + 1)).status_code == 404
    with pytest.raises(httpx.ConnectError):
        httpx.post(url, content=asked())


@pytest.mark.parametrize(
    "query",
    [b"", b"\xff", b"[]", b"{}", b'{"package": 1}', asked("one"), asked(name=3), asked(ecosystem="npm"), asked(None)],  # type: ignore[arg-type]
)
def test_a_question_that_is_none_is_refused(query: bytes) -> None:
    status, reply = answer(KEPT, query)
    assert status == 400
    assert reply["code"] == 3
