"""`pendra identities` and the limits of `pendra keys create`, as a person meets them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from ops.cli import run

KEY = base64.b64encode(b"k" * 32).decode()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENDRA_HOME", str(tmp_path))


def test_enrol_list_and_revoke(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["identities", "enrol", KEY, "--name", "gpu-07"]) == 0
    identity = capsys.readouterr().out.split()[0]
    assert run(["identities", "list"]) == 0
    assert f"{identity}  registered" in capsys.readouterr().out
    assert run(["identities", "revoke", identity]) == 0
    assert run(["identities", "approve", identity]) == 1
    assert "for good" in capsys.readouterr().err
    assert run(["identities", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["state"] == "revoked"


def test_what_is_unknown_or_no_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["identities", "revoke", "idn-none"]) == 1
    assert "identity_not_found" in capsys.readouterr().err
    assert run(["identities", "enrol", "nonsense"]) == 2
    assert "32 bytes" in capsys.readouterr().err


def test_a_key_with_limits(capsys: pytest.CaptureFixture[str]) -> None:
    limits = ["--models", "smollm2:135m, qwen3:*", "--rate", "30", "--expires", "90d", "--label", "team-a"]
    assert run(["keys", "create", "app", *limits]) == 0
    plain = capsys.readouterr().out.strip()
    assert run(["keys", "list"]) == 0
    shown = capsys.readouterr().out
    assert plain not in shown
    assert "live     app  (smollm2:135m, qwen3:*; 30/min; until 2" in shown
    assert "team-a)" in shown
    assert run(["keys", "create", "app", "--expires", "yesterday"]) == 1
    assert "90d, 12h" in capsys.readouterr().err
