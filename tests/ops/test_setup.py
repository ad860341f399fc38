"""`pendra setup`: what it writes, what it never overwrites, and that the key never shows."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ops import cli
from ops.setup import build_advice, plan
from ops.wheels import Build, Machine
from tasks.sealing import FleetKey
from tasks.settings import Settings, load_settings
from tasks.settings_edit import env_of

SEED = base64.b64encode(bytes(range(32))).decode()
OTHER = base64.b64encode(bytes(range(1, 33))).decode()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in Settings.model_fields:
        monkeypatch.delenv(env_of(name), raising=False)
    monkeypatch.setenv("PENDRA_HOME", str(tmp_path))
    return tmp_path


def setup(*args: str) -> int:
    return cli.run(["setup", *args])


def ask(*args: str, answers: str) -> Result:
    return CliRunner().invoke(cli.cli, ["setup", *args], input=answers)


def test_every_question_is_an_option(home: Path, capsys: pytest.CaptureFixture[str]):
    status = setup(
        "--non-interactive", "--key", SEED, "--name", "box", "--models-dir", "/srv/models", "--ollama", "OFF",
        "--vllm", "http://v:8000/", "--lmstudio", "", "--speaches", "none", "--redis-url", "redis://r:1/0",
        "--api-url", "wss://api.example",
    )  # fmt: skip
    assert status == 0
    settings = load_settings()
    assert settings.gpu_worker_private_key
    assert settings.gpu_worker_private_key.get_secret_value() == SEED
    assert (settings.worker_name, settings.models_dir) == ("box", Path("/srv/models"))
    assert (settings.ollama_endpoint, settings.vllm_endpoint) == ("off", "http://v:8000")
    assert (settings.lmstudio_endpoint, settings.speaches_endpoint) == ("", "off")
    assert (settings.redis_url, settings.app_server_ws_url) == ("redis://r:1/0", "wss://api.example")
    assert (home / "config.yaml").stat().st_mode & 0o777 == 0o600
    shown = "".join(capsys.readouterr())
    assert SEED not in shown
    assert "pendra bridge" in shown


def test_the_key_from_a_file(tmp_path: Path):
    (tmp_path / "key").write_text(SEED + "\n")
    assert setup("--non-interactive", "--key-file", str(tmp_path / "key")) == 0
    assert load_settings().gpu_worker_private_key is not None


def test_wrong_options_are_told_together_and_nothing_is_written(home: Path, capsys: pytest.CaptureFixture[str]):
    assert setup("--non-interactive", "--key", "bm90IGEga2V5", "--redis-url", "ftp://x") == 2
    errors = capsys.readouterr().err
    assert "GPU_WORKER_PRIVATE_KEY" in errors
    assert "bm90IGEga2V5" not in errors
    assert "ftp://x" in errors
    assert not (home / "config.yaml").exists()
    assert not (home / "fleet-key").exists()


def test_the_fleet_key_is_made_once(home: Path):
    assert setup("--non-interactive") == 0
    path = home / "fleet-key"
    made = path.read_text()
    assert FleetKey.from_base64(made).id == load_settings().fleet_keys()[0].id
    assert path.stat().st_mode & 0o777 == 0o600
    assert setup("--non-interactive", "--force") == 0
    assert path.read_text() == made


def test_another_value_in_the_file_is_not_replaced_without_force(capsys: pytest.CaptureFixture[str]):
    setup("--non-interactive", "--key", SEED, "--name", "box")
    assert setup("--non-interactive", "--key", OTHER, "--name", "other") == 2
    errors = capsys.readouterr().err
    assert "gpu_worker_private_key, worker_name" in errors
    assert "--force" in errors
    assert load_settings().worker_name == "box"
    assert setup("--non-interactive", "--key", SEED, "--name", "box") == 0  # the same again is no replacement
    assert setup("--non-interactive", "--name", "other", "--force") == 0
    assert load_settings().worker_name == "other"


def test_questions(home: Path):
    result = ask(answers=f"{SEED}\nbox\n\n\nnot-a-url\nredis://r\noff\n\n\n\n")
    assert result.exit_code == 0, result.output
    assert SEED not in result.output
    settings = load_settings()
    assert settings.gpu_worker_private_key
    assert (settings.worker_name, settings.redis_url, settings.ollama_endpoint) == ("box", "redis://r", "off")
    assert "not-a-url" in result.output  # the bad answer was refused and asked again
    assert "models_dir" not in (home / "config.yaml").read_text()  # Enter writes nothing


def test_a_question_answered_by_an_option_is_not_asked():
    result = ask("--name", "box", answers="\n" * 9)
    assert result.exit_code == 0, result.output
    assert "Name of this worker" not in result.output
    assert load_settings().worker_name == "box"


def test_a_key_that_is_set_is_kept_unless_replaced():
    setup("--non-interactive", "--key", SEED)
    result = ask(answers="n\n" + "\n" * 9)
    assert result.exit_code == 0, result.output
    result = ask(answers=f"y\n{OTHER}\n" + "\n" * 9)
    assert result.exit_code == 0, result.output
    key = load_settings().gpu_worker_private_key
    assert key
    assert key.get_secret_value() == OTHER


def test_an_option_that_replaces_is_asked_about():
    setup("--non-interactive", "--name", "box")
    assert ask("--name", "other", answers="n\n").exit_code != 0
    assert load_settings().worker_name == "box"


def test_the_plan_is_what_the_file_does_not_say_yet():
    made = plan({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4})
    assert dict(made.changes) == {"b": 3, "c": 4}
    assert made.replaced == ("b",)


@pytest.mark.parametrize(
    ("wanted", "cuda", "uses_gpu", "says"),
    [
        (None, None, False, None),
        (None, (12, 4), True, None),
        (None, (12, 4), False, "whl/cu124"),
        (Build.CPU, None, False, "whl/cpu"),
        (Build.VULKAN, None, True, "-DGGML_VULKAN=ON"),
    ],
)
def test_the_build_that_fits_is_named_when_it_is_not_here(wanted, cuda, uses_gpu, says):
    text = build_advice(Machine("Linux", "x86_64", cuda), "python", wanted=wanted, uses_gpu=lambda: uses_gpu)
    assert says in text if says else text == ""
