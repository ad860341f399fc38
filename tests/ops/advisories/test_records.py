"""Which versions an advisory is about, by OSV's rule; and our own list."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from ops.advisories.records import Advisory, Book, Range, read_kept
from tasks.errors import ConfigError

ROOT = Path(__file__).parents[3]


def book(**affected: Any) -> Book:
    package = {"name": "Some_Thing", "ecosystem": affected.pop("ecosystem", "PyPI")}
    withdrawn = affected.pop("withdrawn", None)
    row = {"id": "X-1", "withdrawn": withdrawn, "affected": [{"package": package, **affected}]}
    return Book([Advisory.model_validate(row)])


def bounds(*events: dict[str, str]) -> list[dict[str, Any]]:
    return [{"type": "ECOSYSTEM", "events": events}]


@pytest.mark.parametrize(
    ("events", "inside", "outside"),
    [
        ([{"introduced": "0"}, {"fixed": "2.0"}], ["0.0.1", "1.9", "2.0rc1"], ["2.0", "2.0.0", "10.0"]),
        ([{"introduced": "1.0"}, {"fixed": "1.10"}], ["1.0", "1.9"], ["0.9", "1.10", "1.11"]),
        ([{"introduced": "0"}, {"last_affected": "5.6.3"}], ["5.6.3"], ["5.6.3.post1", "5.6.4"]),
        (
            [{"fixed": "1.2"}, {"introduced": "0"}, {"introduced": "2.0"}, {"fixed": "2.3"}],
            ["1.1", "2.2"],
            ["1.5", "3"],
        ),
        ([{"introduced": "3.0"}], ["3.0", "99"], ["2.9"]),
    ],
)
def test_a_range_by_its_events(events: list[dict[str, str]], inside: list[str], outside: list[str]) -> None:
    span = Range.model_validate({"events": events})
    assert [version for version in inside if not span.holds(Version(version))] == []
    assert [version for version in outside if span.holds(Version(version))] == []


def test_listed_versions_count_beside_ranges() -> None:
    known = book(versions=["1.0", "1.0-something-odd"], ranges=bounds({"introduced": "3.0"}))
    assert [bool(known.about("some.thing", version)) for version in ("1.0.0", "2.0", "3.1")] == [True, False, True]


def test_what_was_withdrawn_or_is_of_another_ecosystem_or_counts_commits_is_nothing() -> None:
    everything = bounds({"introduced": "0"})
    assert book(ranges=everything).about("some-thing", "1.0")
    assert not book(ranges=everything, withdrawn="2025-01-01T00:00:00Z").about("some-thing", "1.0")
    assert not book(ranges=everything, ecosystem="npm").about("some-thing", "1.0")
    assert not book(ranges=[{"type": "GIT", "events": [{"introduced": "0"}]}]).about("some-thing", "1.0")
    assert not book(ranges=everything).about("other", "1.0")


def test_our_list_is_whole() -> None:
    kept = read_kept()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", kept.looked_over)
    assert re.fullmatch(r"\d{4}-\d\d", kept.reaches)
    assert all(re.fullmatch(r"(CVE|GHSA|PYSEC)-[\w-]+", each.id) for each in kept.advisories)
    rows = [(each.id, *sorted(each.packages())) for each in kept.advisories]
    assert len(set(rows)) == len(rows)
    assert all(len(each.why) > 40 for each in kept.accepted)


def test_every_advisory_of_our_list_is_about_some_version_and_not_about_its_fixed_one() -> None:
    for advisory in read_kept().advisories:
        (affected,) = advisory.affected
        begin, end = affected.ranges[0].events
        first = "0.0.1" if begin.introduced == "0" else str(begin.introduced)
        assert affected.holds(Version(end.last_affected or first)), advisory.id
        assert end.fixed is None or not affected.holds(Version(end.fixed)), advisory.id


def test_no_version_that_we_allow_at_the_least_is_known_to_be_vulnerable() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["dev"]]
    least = {each.name: bound.version for each in wanted for bound in each.specifier if bound.operator == ">="}
    assert len(least) > 30
    known = Book(read_kept().advisories)
    found = {name: [each.id for each in known.about(name, version)] for name, version in least.items()}
    assert {name: ids for name, ids in found.items() if ids} == {}


def test_what_is_accepted_is_true_of_the_product() -> None:
    """diskcache: llama-cpp-python opens a folder for it when somebody makes a LlamaDiskCache."""
    rooms = [path for room in ("bridge", "tasks", "worker", "ops") for path in (ROOT / room).rglob("*.py")]
    assert len(rooms) > 100
    assert [path for path in rooms if "DiskCache" in path.read_text()] == []


@pytest.mark.parametrize("text", ["", "{}", '{"advisories": [{}]}', json.dumps({"advisories": [{"package": "a"}]})])
def test_a_list_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "known.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"known\.json cannot be read"):
        read_kept(file)
