"""`pendra config`: both names of a key, the same checks as at loading, and no secret on the screen."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest

from ops import cli
from tasks.settings import Settings, load_settings
from tasks.settings_edit import MASK, env_of

SEED = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in Settings.model_fields:
        monkeypatch.delenv(env_of(name), raising=False)
    monkeypatch.setenv("PENDRA_HOME", str(tmp_path))
    return tmp_path


def config(*args: str) -> int:
    return cli.run(["config", *args])


@pytest.mark.parametrize("key", ["MAX_CONCURRENT", "max_concurrent", "Max_Concurrent"])
def test_set_and_get_by_either_name(key: str, capsys: pytest.CaptureFixture[str]):
    assert config("set", key, "300") == 0
    assert "max_concurrent: 64" in capsys.readouterr().err  # what holds, not what was typed
    assert config("get", key) == 0
    assert capsys.readouterr().out == "64\n"


def test_what_is_set_is_what_is_loaded(capsys: pytest.CaptureFixture[str]):
    for key, value in {
        "MODELS": '["a:1", {"id": "b"}]',
        "PENDRA_PRELOAD": "a:1,b",
        "ollama_endpoint": "OFF",
        "PENDRA_GRACE_SECONDS": "2.5",
        "models_dir": "some/where",
    }.items():
        assert config("set", key, value) == 0
    settings = load_settings()
    assert settings.models == settings.preload == ("a:1", "b")
    assert settings.ollama_endpoint == "off"
    assert settings.grace_seconds == 2.5
    assert settings.models_dir == Path.cwd() / "some" / "where"
    capsys.readouterr()
    config("get", "models")
    assert json.loads(capsys.readouterr().out) == ["a:1", "b"]


def test_a_bad_value_is_refused_and_nothing_written(home: Path, capsys: pytest.CaptureFixture[str]):
    assert config("set", "max_concurrent", "many") == 2
    assert "1 to 64" in capsys.readouterr().err
    assert not (home / "config.yaml").exists()


def test_a_bad_key_suggests_the_nearest(capsys: pytest.CaptureFixture[str]):
    assert config("set", "max_concurent", "3") == 2
    assert "did you mean max_concurrent" in capsys.readouterr().err.lower()
    assert config("get", "nothing_like_it_at_all") == 2
    assert "`pendra config list` shows all" in capsys.readouterr().err


def test_a_key_of_the_environment_only(capsys: pytest.CaptureFixture[str]):
    assert config("set", "device", "gpu0") == 2
    assert "PENDRA_DEVICE in the environment" in capsys.readouterr().err


def test_a_broken_value_in_the_file_can_be_set_right(home: Path):
    (home / "config.yaml").write_text("max_concurrent: many\n")
    (home / "config.yaml").chmod(0o600)
    assert config("list") == 2
    assert config("set", "max_concurrent", "2") == 0
    assert config("list") == 0


def test_unset_brings_the_default_back():
    config("set", "max_waiting", "5")
    assert load_settings().max_waiting == 5
    assert config("unset", "PENDRA_MAX_WAITING") == 0
    assert load_settings().max_waiting == 1000


def test_a_key_from_standard_input_never_shows(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.stdin", io.StringIO(SEED + "\n"))
    assert config("set", "GPU_WORKER_PRIVATE_KEY", "-") == 0
    for args in (("get", "gpu_worker_private_key"), ("list",), ("list", "--json")):
        assert config(*args) == 0
        assert SEED not in (shown := "".join(capsys.readouterr()))
    assert MASK in shown
    assert config("get", "gpu_worker_private_key", "--show-secret") == 0
    assert capsys.readouterr().out.strip() == SEED
    assert (home / "config.yaml").stat().st_mode & 0o777 == 0o600


def test_list_says_where_each_value_comes_from(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    config("set", "max_waiting", "5")
    monkeypatch.setenv("WORKER_NAME", "box")
    monkeypatch.setenv("PENDRA_REDIS_URL", "redis://u:hunter2@h:1/0")
    capsys.readouterr()
    assert config("list", "--json") == 0
    text = capsys.readouterr().out
    rows = {row["name"]: row for row in json.loads(text)}
    assert set(rows) == set(Settings.model_fields)
    assert (rows["max_waiting"]["value"], rows["max_waiting"]["source"]) == (5, "file")
    assert (rows["worker_name"]["value"], rows["worker_name"]["source"]) == ("box", "environment")
    assert rows["vllm_endpoint"]["source"] == "default"
    assert rows["worker_name"]["env"] == "WORKER_NAME"
    assert "hunter2" not in text


def test_a_value_that_the_environment_overrides_is_pointed_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("WORKER_NAME", "box")
    config("set", "worker_name", "other")
    assert "wins over the file" in capsys.readouterr().err


def test_path(home: Path, capsys: pytest.CaptureFixture[str]):
    assert config("path") == 0
    assert capsys.readouterr().out == f"{home / 'config.yaml'}\n"
