from __future__ import annotations

from ops.advisories.records import Accepted
from ops.advisories.scan import Finding, Report
from ops.advisories.verdict import lines, verdict

DISK = Finding("diskcache", "5.6.3", ("GHSA-1", "CVE-1"), ())
JINJA = Finding("jinja2", "2.10", ("CVE-2",), ("2.10.1", "2.11"))
REASON = Accepted(id="CVE-1", package="diskcache", why="It is not used.")


def test_what_was_accepted_by_any_of_its_names_does_not_stand() -> None:
    said = verdict("s", Report(2, (), (DISK, JINJA)), [REASON])
    assert (said.findings, said.accepted) == ((JINJA,), (REASON,))


def test_a_reason_counts_for_its_package_only() -> None:
    other = Accepted(id="CVE-1", package="other", why="")
    assert verdict("s", Report(1, (), (DISK,)), [other]).findings == (DISK,)


def test_the_words() -> None:
    assert list(lines(verdict("s", Report(3, ("mine",), (DISK, JINJA)), [REASON]))) == [
        "VULNERABLE jinja2 2.10: CVE-2; fixed in 2.10.1, 2.11",
        "accepted diskcache: CVE-1. It is not used.",
        "not judged, unknown there: mine",
        "3 packages judged by s: 1 known vulnerabilities",
    ]
    assert list(lines(verdict("s", Report(3, (), ()), []))) == ["3 packages judged by s: none known"]
    assert "not fixed in any version" in next(lines(verdict("s", Report(1, (), (DISK,)), [])))
