"""From a clone of a database to our few records, and back."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ops.advisories.collect import collect, our_packages, read, write
from ops.advisories.records import Book
from tasks.errors import ConfigError

YAML = """
id: PYSEC-2099-1
details: made up
aliases: [CVE-2099-1]
published: 2099-01-02T03:04:05Z
affected:
- package: {name: jinja2, ecosystem: PyPI}
  ranges:
  - type: ECOSYSTEM
    events: [{introduced: '0'}, {fixed: 3.10}]
  versions: [2.10, 3.1]
"""
GHSA = {
    "id": "GHSA-x",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "PyYAML"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"last_affected": "5.0"}]}],
        }
    ],
}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    root = tmp_path / "database"
    for name, text in {
        "vulns/jinja2/PYSEC-2099-1.yaml": YAML,
        "vulns/unknown-thing/PYSEC-2099-2.yaml": "not: {an advisory",
        "advisories/2099/GHSA-x.json": json.dumps(GHSA),
        "advisories/2099/npm.json": '{"ecosystem": "npm"}',
        "LICENSE": "\nAttribution 4.0 International\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_yaml_and_json_about_our_packages_are_kept(clone: Path, tmp_path: Path) -> None:
    write(collect(clone, our_packages()), tmp_path / "cache")
    (found,) = read(tmp_path / "cache")
    assert (found.source, found.commit, found.date) == ("database", "", "")
    assert found.licence == "Attribution 4.0 International"
    known = Book(found.advisories)
    assert len(known) == 2
    assert [bool(known.about("jinja2", version)) for version in ("3.9", "3.10")] == [True, False], "3.10 is not 3.1"
    assert known.about("pyyaml", "5.0")


def test_a_clone_is_named_with_its_commit_and_date(clone: Path, tmp_path: Path) -> None:
    git = ["git", "-C", str(clone), "-c", "user.name=a", "-c", "user.email=a@b"]
    for args in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x", "--date", "2099-01-01T00:00:00Z"],
                 ["remote", "add", "origin", "https://host/db.git"]):  # fmt: skip
        subprocess.run([*git, *args], check=True)
    first = write(collect(clone, our_packages()), tmp_path / "cache")
    assert write(collect(clone, our_packages()), tmp_path / "cache") == first, "a newer copy replaces the older"
    (found,) = read(tmp_path / "cache")
    assert found.source == "https://host/db.git"
    assert len(found.commit) == 40
    assert found.date.startswith("20")


def test_what_is_no_database_is_refused(clone: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no advisory"):
        collect(tmp_path / "empty", our_packages())
    (clone / "vulns/jinja2/bad.yaml").write_text("id: 1\naffected: word")
    with pytest.raises(ConfigError, match=r"bad\.yaml is no advisory"):
        collect(clone, our_packages())
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ConfigError, match="no collection of advisories"):
        read(tmp_path)
