"""pip-audit itself, against the service on loopback: the check of what is installed here, and that it can fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ops.advisories.__main__ import main
from ops.advisories.records import Book, read_kept
from ops.advisories.scan import UnansweredError, must_answer, osv_at, parse, pinned
from ops.advisories.service import serving


def test_nothing_installed_is_known_to_be_vulnerable() -> None:
    """Ask `make audit` what to do when this fails; it also asks the live services."""
    said = CliRunner().invoke(main, ["check", "--stored"])
    assert said.exit_code == 0, said.output
    assert "packages judged by" in said.output
    assert said.output.rstrip().endswith(": none known")
    assert int(said.output.rstrip().splitlines()[-1].split()[0]) > 80


def test_old_versions_are_found_whatever_the_environment_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_AUDIT_OUTPUT", str(tmp_path / "elsewhere"))
    file = tmp_path / "requirements.txt"
    file.write_text("jinja2==2.10\nrequests==2.31.0\nclick==8.1.8\ndiskcache==5.6.3\n")
    said = CliRunner().invoke(main, ["check", "--stored", "--requirements", str(file)])
    assert said.exit_code == 1, said.output
    found = [line for line in said.output.splitlines() if line.startswith("VULNERABLE")]
    assert any("jinja2 2.10:" in line and "CVE-2019-10906" in line and "fixed in 2.10.1" in line for line in found)
    assert any("requests 2.31.0:" in line and "CVE-2024-35195" in line for line in found)
    assert {line.split()[1] for line in found} == {"jinja2", "requests"}
    assert "accepted diskcache: CVE-2025-69872" in said.output


def test_a_service_that_knows_nothing_is_not_believed() -> None:
    with serving(Book([])) as url, pytest.raises(UnansweredError, match=r"knows nothing against jinja2==2\.10"):
        must_answer(osv_at("empty", url))


def test_a_service_that_is_not_there_is_not_believed(tmp_path: Path) -> None:
    with serving(Book(read_kept().advisories)) as url:
        pass
    file = tmp_path / "requirements.txt"
    file.write_text("click==8.1.8\n")
    with pytest.raises(UnansweredError, match="ConnectionError"):
        pinned(osv_at("gone", url), file)


def test_a_report_tells_ourselves_from_what_is_unknown() -> None:
    rows = [
        {"name": "pendra-worker", "skip_reason": "distribution marked as editable"},
        {"name": "inhouse", "skip_reason": "Dependency not found on PyPI and could not be audited: inhouse (1)"},
        {"name": "a", "version": "1", "vulns": []},
        {"name": "b", "version": "2", "vulns": [{"id": "X", "aliases": ["Y"], "fix_versions": ["3"]}]},
    ]
    report = parse(json.dumps({"dependencies": rows, "fixes": []}))
    assert (report.judged, report.unjudged) == (2, ("inhouse",))
    assert [(each.package, each.ids, each.fixed) for each in report.findings] == [("b", ("X", "Y"), ("3",))]


@pytest.mark.parametrize("output", ["", "Traceback", "[]", "{}", '{"dependencies": [{"vulns": [{}]}]}'])
def test_what_is_no_report_is_said_so(output: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse(output)
