"""`pendra keys list | fingerprint | rotate | retire`: the keys that a fleet's hosts share."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ops.commands.keys import command
from tasks import fleet_key_file
from tasks.errors import ConfigError, NotFoundError
from tasks.sealing import FleetKey, Opener, Sealer
from tasks.settings import load_settings
from worker.private import keys as workload


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PENDRA_HOME", str(tmp_path))
    for name in ("PENDRA_FLEET_KEY", "PENDRA_FLEET_KEY_OLD", "PENDRA_WORKLOAD_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    fleet_key_file.ensure(tmp_path / "fleet-key")
    workload.ensure(tmp_path / "workload-key")
    return tmp_path


def said(*args: str) -> str:
    done = CliRunner().invoke(command, args, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def secrets(home: Path) -> list[str]:
    return [*(home / "fleet-key").read_text().split(), *(home / "workload-key").read_text().split()]


def test_the_fingerprint_is_what_the_sdk_pins(home: Path) -> None:
    (key,) = workload.load(home / "workload-key")
    assert said("fingerprint").split() == [key.kid]
    assert json.loads(said("fingerprint", "--json")) == [key.kid]


def test_no_workload_key_says_how_to_get_one(home: Path) -> None:
    (home / "workload-key").unlink()
    with pytest.raises(NotFoundError, match="workload-key does not exist"):
        said("fingerprint")
    made = said("rotate")
    assert said("fingerprint").strip() in made


def test_the_workload_key_is_rotated_and_retired(home: Path) -> None:
    (first,) = said("fingerprint").split()
    assert first in said("rotate")
    second, still = said("fingerprint").split()
    assert (still, second != first) == (first, True)
    assert first in said("retire")
    assert said("fingerprint").split() == [second]
    assert "nothing to retire" in said("retire", "workload")


def test_the_fleet_key_is_rotated_without_a_moment_in_which_somebody_cannot_open(home: Path) -> None:
    """Each host is one step behind or ahead of another: what either seals, the other opens."""

    def keys() -> tuple[FleetKey, ...]:
        return load_settings().fleet_keys()

    states = [keys()]
    for step in (("rotate", "fleet"), ("rotate", "fleet"), ("retire", "fleet")):
        said(*step)
        states.append(keys())
    for before, after in itertools.pairwise(states):
        for sealing, opening in ((before, after), (after, before)):
            assert Opener(*opening).open(Sealer(sealing[0]).seal(b"x", b""), b"") == b"x"
    assert states[0][0].id != states[-1][0].id
    assert len(states[-1]) == 1


def test_a_fleet_key_from_the_environment_is_rotated_there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENDRA_FLEET_KEY", FleetKey.generate().to_base64())
    with pytest.raises(ConfigError, match="PENDRA_FLEET_KEY_OLD"):
        said("rotate", "fleet")


def test_the_list_shows_all_keys_and_no_secret(home: Path) -> None:
    said("create", "ada")
    said("rotate")
    said("rotate", "fleet")
    rows = json.loads(said("list", "--json"))
    assert [row["type"] for row in rows] == ["workload", "workload", "fleet", "fleet", "api"]
    assert rows[0]["id"] == said("fingerprint").split()[0]
    assert (rows[2]["use"], rows[3]["use"], rows[4]["name"]) == ("seals", "opens only", "ada")
    text = said("list") + said("list", "--json")
    assert not [secret for secret in secrets(home) if secret in text]


def test_the_files_stay_private(home: Path) -> None:
    said("rotate")
    said("rotate", "fleet")
    assert {path.stat().st_mode & 0o777 for path in (home / "fleet-key", home / "workload-key")} == {0o600}
