"""Settings: which source wins, what each value may be, and how a bad one is told."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import settings_values as values
from tasks.errors import ConfigError
from tasks.sealing import FleetKey
from tasks.settings import Settings, load_settings
from tasks.settings_edit import env_of

SEED = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in Settings.model_fields:
        monkeypatch.delenv(env_of(name), raising=False)
    monkeypatch.setenv("PENDRA_HOME", str(tmp_path))
    return tmp_path


def write(home: Path, text: str) -> None:
    path = home / "config.yaml"
    path.write_text(text)
    path.chmod(0o600)


def test_defaults(home: Path):
    settings = load_settings()
    assert settings.app_server_ws_url == "wss://api.pendra.ai"
    assert settings.gpu_worker_private_key is None
    assert settings.models is None
    assert settings.max_concurrent is None
    assert settings.models_dir == home / "models"
    assert settings.worker_name
    assert [settings.ollama_endpoint, settings.vllm_endpoint] == ["", ""]
    assert [settings.lmstudio_endpoint, settings.speaches_endpoint] == ["", ""]
    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert (settings.max_waiting, settings.grace_seconds, settings.refresh_seconds) == (1000, 10.0, 15.0)
    assert (settings.n_gpu_layers, settings.n_batch, settings.device) == (-1, None, "cpu0")


def test_home_without_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("PENDRA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    settings = load_settings()
    assert settings.home == tmp_path / "me" / ".pendra"
    assert settings.models_dir == tmp_path / "me" / ".pendra" / "models"


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    write(home, "worker_name: from-file\napp_server_ws_url: wss://file.example\n")
    monkeypatch.setenv("WORKER_NAME", "from-env")
    settings = load_settings()
    assert settings.worker_name == "from-env"
    assert settings.app_server_ws_url == "wss://file.example"
    assert load_settings(worker_name="given").worker_name == "given"


def test_an_empty_variable_is_not_set_unless_empty_means_automatic(home: Path, monkeypatch: pytest.MonkeyPatch):
    write(home, "worker_name: from-file\nmax_concurrent: 4\nollama_endpoint: http://h:1\n")
    for name in ("WORKER_NAME", "MAX_CONCURRENT", "OLLAMA_ENDPOINT"):
        monkeypatch.setenv(name, "")
    settings = load_settings()
    assert settings.worker_name == "from-file"
    assert settings.max_concurrent is None
    assert settings.ollama_endpoint == ""


@pytest.mark.parametrize(("given", "held"), [("0", 1), ("-3", 1), ("1", 1), ("64", 64), ("65", 64), ("900", 64)])
def test_max_concurrent_is_clamped(given: str, held: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MAX_CONCURRENT", given)
    assert load_settings().max_concurrent == held


@pytest.mark.parametrize("word", ["off", "OFF", "0", "false", "False", "none", "No", " off "])
def test_every_off_word_means_off(word: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VLLM_ENDPOINT", word)
    assert load_settings().vllm_endpoint == "off"


@pytest.mark.parametrize("word", ["off", "no", "false", "0", "'OFF'", "none"])
def test_off_words_in_the_file_where_yaml_makes_them_booleans(word: str, home: Path):
    write(home, f"vllm_endpoint: {word}\n")
    assert load_settings().vllm_endpoint == "off"


def test_an_endpoint_url_loses_its_last_slash(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OLLAMA_ENDPOINT", "http://box:11434/")
    assert load_settings().ollama_endpoint == "http://box:11434"


@pytest.mark.parametrize("text", ['["a:1", {"id": "b"}]', '[{"id": "a:1", "x": 2}, "b", "a:1"]', ' ["a:1","b"] '])
def test_models_as_json(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MODELS", text)
    assert load_settings().models == ("a:1", "b")


def test_models_in_the_file(home: Path):
    write(home, "models:\n- a:1\n- id: b\npreload: [c]\n")
    settings = load_settings()
    assert settings.models == ("a:1", "b")
    assert settings.preload == ("c",)


@pytest.mark.parametrize("text", ["a:1, b", '["a:1", "b"]', "a:1,b,"])
def test_preload_takes_commas_or_json(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PENDRA_PRELOAD", text)
    assert load_settings().preload == ("a:1", "b")


@pytest.mark.parametrize(
    ("env", "value", "allowed"),
    [
        ("MAX_CONCURRENT", "many", "1 to 64"),
        ("MODELS", "smollm2", "JSON array"),
        ("MODELS", "[]", "JSON array"),
        ("MODELS", '[{"name": "x"}]', "JSON array"),
        ("OLLAMA_ENDPOINT", "box:11434", "URL"),
        ("APP_SERVER_WS_URL", "https://api.pendra.ai", "wss://"),
        ("PENDRA_REDIS_URL", "amqp://h", "redis://"),
        ("PENDRA_LOG_LEVEL", "loud", "DEBUG"),
        ("PENDRA_LOG_FORMAT", "xml", "text or json"),
        ("PENDRA_METRICS_PORT", "65536", "a port"),
        ("PENDRA_MAX_WAITING", "0", "from 1"),
        ("PENDRA_GRACE_SECONDS", "nan", "seconds"),
        ("PENDRA_REFRESH_SECONDS", "0", "above 0"),
        ("PENDRA_THREADS", "-1", "from 1"),
        ("WORKER_ID", "a b", "letters"),
        ("PENDRA_REDIS_URL", "redis://h:port", "redis://"),
    ],
)
def test_a_bad_value_names_key_value_and_what_is_allowed(
    env: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(env, value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    text = caught.value.message
    assert env in text
    assert value in text
    assert allowed in text.partition("; allowed: ")[2]
    assert "environment" in text
    assert "\n" not in text  # one problem, one line


def test_sentinel_is_refused_in_words(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PENDRA_REDIS_URL", "redis+sentinel://h:26379/m")
    with pytest.raises(ConfigError, match="Sentinel is not supported"):
        load_settings()


def test_all_problems_come_at_once_with_where_they_stand(home: Path, monkeypatch: pytest.MonkeyPatch):
    write(home, "max_concurrent: many\n")
    monkeypatch.setenv("PENDRA_REDIS_URL", "ftp://h")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    problems = caught.value.message.splitlines()
    assert len(problems) == 2
    assert "max_concurrent in config.yaml" in problems[0]
    assert "PENDRA_REDIS_URL (from the environment)" in problems[1]


@pytest.mark.parametrize("env", ["GPU_WORKER_PRIVATE_KEY", "PENDRA_FLEET_KEY", "PENDRA_FLEET_KEY_OLD"])
@pytest.mark.parametrize("value", ["verysecretnotbase64!", base64.b64encode(b"verysecretbuttooshort").decode()])
def test_a_bad_secret_is_never_shown(env: str, value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(env, value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert env in caught.value.message
    assert value not in caught.value.message
    assert caught.value.__cause__ is None  # pydantic's error would hold it


def test_a_password_in_a_url_is_never_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PENDRA_REDIS_URL", "http://user:hunter2@h:1")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert "hunter2" not in caught.value.message
    monkeypatch.setenv("PENDRA_REDIS_URL", "redis://user:hunter2@h:1")
    assert "hunter2" not in repr(load_settings())


def test_secrets_do_not_show_in_the_repr(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GPU_WORKER_PRIVATE_KEY", SEED)
    settings = load_settings()
    assert settings.gpu_worker_private_key is not None
    assert settings.gpu_worker_private_key.get_secret_value() == SEED
    assert SEED not in repr(settings)


def test_settings_are_frozen():
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.worker_name = "x"


def test_an_unknown_key_in_the_file_is_a_warning(home: Path, caplog: pytest.LogCaptureFixture):
    write(home, "max_concurent: 3\nhome: /x\n")
    assert load_settings().max_concurrent is None
    assert "max_concurent is ignored; max_concurrent?" in caplog.text
    assert "home is ignored" in caplog.text


def test_an_unknown_argument_is_an_error():
    with pytest.raises(ConfigError, match="no setting wroker_name; did you mean worker_name"):
        load_settings(wroker_name="x")


@pytest.mark.skipif(sys.platform == "win32", reason="no file modes")
def test_a_file_that_others_can_read_is_a_warning(home: Path, caplog: pytest.LogCaptureFixture):
    write(home, "worker_id: wrk-1\n")
    load_settings()
    assert not caplog.records
    (home / "config.yaml").chmod(0o644)
    load_settings()
    assert [record.action for record in caplog.records] == ["settings.file_mode"]
    assert "chmod 600" in caplog.text


def test_the_worker_id_is_made_once_and_kept(home: Path):
    made = load_settings().worker_id
    assert re.fullmatch(r"wrk-[0-9a-f]{8}", made)
    assert load_settings().worker_id == made
    assert made in (home / "config.yaml").read_text()
    assert (home / "config.yaml").stat().st_mode & 0o777 == 0o600


def test_a_worker_id_from_the_environment_is_not_written(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORKER_ID", "wrk-mine")
    assert load_settings().worker_id == "wrk-mine"
    assert not (home / "config.yaml").exists()


def test_processes_that_start_together_agree_on_the_worker_id(home: Path):
    argv = [sys.executable, "-c", "from tasks.settings import load_settings; print(load_settings().worker_id)"]
    env = os.environ | {"PENDRA_HOME": str(home)}
    processes = [subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    ids = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert len(ids) == 1
    assert ids.pop() == load_settings().worker_id


def test_the_child_id_follows_from_worker_and_device(monkeypatch: pytest.MonkeyPatch):
    assert load_settings(worker_id="wrk-1", device="gpu3").child_id == "wrk-1-gpu3"
    monkeypatch.setenv("PENDRA_CHILD_ID", "other")
    assert load_settings(worker_id="wrk-1").child_id == "other"


def test_fleet_keys_from_the_setting_with_old_ones_behind():
    new, *old = (FleetKey.generate() for _ in range(3))
    settings = load_settings(fleet_key=new.to_base64(), fleet_key_old=", ".join(k.to_base64() for k in old))
    assert [key.id for key in settings.fleet_keys()] == [new.id, *(key.id for key in old)]


def test_the_fleet_key_from_its_file(home: Path):
    key = FleetKey.generate()
    (home / "fleet-key").write_text(key.to_base64() + "\n")
    (home / "fleet-key").chmod(0o600)
    assert [found.id for found in load_settings().fleet_keys()] == [key.id]


def test_no_fleet_key_says_how_to_make_one():
    with pytest.raises(ConfigError, match=r"PENDRA_FLEET_KEY .* `pendra setup`"):
        load_settings().fleet_keys()


def test_a_broken_fleet_key_file_is_named_and_not_quoted(home: Path):
    (home / "fleet-key").write_text("notakeybutsecret")
    (home / "fleet-key").chmod(0o600)
    with pytest.raises(ConfigError, match=r"fleet-key does not hold a fleet key") as caught:
        load_settings().fleet_keys()
    assert "notakeybutsecret" not in caught.value.message


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("", None),
        ("0", None),
        ("500kB", 500_000),
        ("20MB", 20_000_000),
        ("1.5G", 1_500_000_000),
        ("8 MB/s", 8_000_000),
    ],
)
def test_a_download_limit_is_bytes_a_second(said: str, meant: int | None):
    assert values.rate(said) == meant


@pytest.mark.parametrize("said", ["fast", "-1", "1e99", "0.5", "5 bananas"])
def test_what_is_no_download_limit(said: str):
    with pytest.raises(ValueError, match="byte"):
        values.rate(said)


def test_a_catalogue_is_a_file_or_a_web_address():
    assert values.catalogue_url("file:///srv/c.json") == "file:///srv/c.json"
    assert values.catalogue_url("https://c.example/c.json") == "https://c.example/c.json"
    assert values.catalogue_url("") == ""
    with pytest.raises(ValueError, match="start with"):
        values.catalogue_url("/srv/c.json")


def test_the_order_of_backends_is_completed():
    assert values.backend_order("") == values.BACKENDS
    assert values.backend_order("vllm, Ollama,vllm") == ("vllm", "ollama", "pendra", "lmstudio", "speaches")
    with pytest.raises(ValueError, match="do not know"):
        values.backend_order("llamafile")


def test_labels_and_groups_of_gpus():
    made = load_settings(labels="PHI, on-prem,phi", gpu_groups="0+1, GPU-ab12cd34")
    assert made.labels == ("phi", "on-prem")
    assert made.gpu_groups == (("0", "1"), ("GPU-ab12cd34",))
    assert load_settings(gpu_groups=[[0, 1], [2]]).gpu_groups == (("0", "1"), ("2",))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"labels": "on prem"}, "PENDRA_LABELS"),
        ({"gpu_groups": "0+1,1"}, "twice"),
        ({"gpu_groups": "0+x"}, "joined by"),
    ],
)
def test_wrong_labels_and_groups_are_named(wrong, words):
    with pytest.raises(ConfigError, match=words):
        load_settings(**wrong)


def test_a_secret_may_come_from_a_file(home: Path, monkeypatch: pytest.MonkeyPatch):
    key = FleetKey.generate().to_base64()
    (home / "fleet_key").write_text(f"{key}\n")
    monkeypatch.setenv("PENDRA_FLEET_KEY_FILE", str(home / "fleet_key"))
    (home / "url").write_text("redis://me:hush@far:1/0")
    monkeypatch.setenv("PENDRA_REDIS_URL_FILE", str(home / "url"))
    settings = load_settings()
    assert settings.fleet_key is not None
    assert settings.fleet_key.get_secret_value() == key
    assert settings.redis_url == "redis://me:hush@far:1/0"
    monkeypatch.setenv("PENDRA_REDIS_URL", "redis://near:1/0")
    assert load_settings().redis_url == "redis://near:1/0"  # what is said outright wins


def test_a_secret_file_that_cannot_be_read_or_holds_nonsense_is_named(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GPU_WORKER_PRIVATE_KEY_FILE", str(home / "nowhere"))
    with pytest.raises(ConfigError, match=r"GPU_WORKER_PRIVATE_KEY_FILE names .*nowhere.*No such file"):
        load_settings()
    (home / "bad").write_text("not a hush key")
    monkeypatch.setenv("GPU_WORKER_PRIVATE_KEY_FILE", str(home / "bad"))
    with pytest.raises(ConfigError, match="from the file that GPU_WORKER_PRIVATE_KEY_FILE names") as caught:
        load_settings()
    assert "hush" not in caught.value.message
