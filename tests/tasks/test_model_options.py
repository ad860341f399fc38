"""Options of a model: layers, what may stand in them, and words for what may not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import settings_edit
from tasks.errors import ConfigError
from tasks.model_options import (
    FlashAttention,
    KvType,
    LoraRef,
    ModelOptions,
    as_plain,
    merged,
    of_model,
    read_table,
)
from tasks.settings import load_settings

WHOLE = {
    "n_gpu_layers": 20,
    "tensor_split": [3, 1],
    "flash_attn": True,
    "cache_type_k": "q8_0",
    "cache_type_v": "q4_0",
    "context_length": 4096,
    "slots": 2,
    "threads": 3,
    "n_batch": 256,
    "keep_alive": "5m",
    "preload": True,
    "lora": ["a.gguf", {"path": "b.gguf", "scale": 0.5}],
}

_LAYERS = st.builds(
    ModelOptions,
    slots=st.none() | st.integers(1, 64),
    n_batch=st.none() | st.integers(1, 999),
    preload=st.none() | st.booleans(),
    keep_alive=st.none() | st.integers(-1, 9),
)


def test_everything_that_can_be_said():
    options = read_table(json.dumps({"m": WHOLE}))["m"]
    assert options.tensor_split == (3, 1)
    assert options.flash_attn is FlashAttention.ON
    assert (options.cache_type_k, options.cache_type_v) == (KvType.Q8_0, KvType.Q4_0)
    assert options.keep_alive == 300
    assert options.lora == (LoraRef(path="a.gguf"), LoraRef(path="b.gguf", scale=0.5))
    assert read_table(as_plain({"m": options})) == {"m": options}


@given(first=_LAYERS, second=_LAYERS, third=_LAYERS)
def test_the_last_layer_that_says_something_wins(first, second, third):
    result = merged(first, second, third)
    for name in ModelOptions.model_fields:
        said = [value for layer in (first, second, third) if (value := getattr(layer, name)) is not None]
        assert getattr(result, name) == (said[-1] if said else None)
    assert merged(merged(first, second), third) == merged(first, merged(second, third)) == result


def test_a_models_own_options_win_over_those_of_all():
    table = read_table({"*": {"slots": 4, "n_batch": 128, "preload": None}, "m": {"slots": 2, "lora": []}})
    assert of_model(table, "m") == ModelOptions(slots=2, n_batch=128, lora=())
    assert of_model(table, "other") == ModelOptions(slots=4, n_batch=128)
    assert of_model({}, "other") == ModelOptions()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"m": {"n_batch": 0}}, "m.n_batch is 0; allowed: a whole number from 1"),
        ({"m": {"n_batch": "many"}}, 'm.n_batch is "many"; allowed: a whole number from 1'),
        ({"m": {"slots": 65}}, "m.slots is 65; allowed: a whole number from 1 to 64"),
        ({"m": {"slots": True}}, "m.slots is true; allowed: a whole number from 1 to 64"),
        ({"*": {"n_gpu_layers": -2}}, r"\*.n_gpu_layers is -2; allowed: a whole number from -1"),
        ({"m": {"cache_type_k": "q2"}}, 'm.cache_type_k is "q2"; allowed: f32, f16, bf16, q8_0'),
        ({"m": {"flash_attn": "maybe"}}, 'm.flash_attn is "maybe"; allowed: auto, on or off'),
        ({"m": {"keep_alive": "later"}}, 'm.keep_alive is "later"; allowed: seconds, or a duration'),
        ({"m": {"tensor_split": []}}, r"m.tensor_split is \[\]; allowed: a list of 1 to 16"),
        ({"m": {"tensor_split": [0, 0]}}, "m.tensor_split is all zeros"),
        ({"m": {"lora": [{"path": "a", "scale": "big"}]}}, "m.lora is .*; allowed: a list of paths"),
        ({"m": {"ctx": 5}}, "m.ctx is no option; allowed: n_gpu_layers, tensor_split"),
        ({"m": 5}, "m is 5; allowed: an object of options"),
        ({"m": {"main_gpu": 0, "tensor_split": [1, 1]}}, "both main_gpu .* and tensor_split"),
        ({"*": {"keep_alive": 0}, "m": {"preload": True}}, "m has preload and keep_alive 0"),
        ({"*": {"flash_attn": "off"}, "m": {"cache_type_v": "q8_0"}}, "m.cache_type_v is q8_0 with flash_attn off"),
        ({"*": {"preload": True}}, r"\*.preload cannot be set for all models"),
        ([], "not an object"),
        ("{", "it is not JSON"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(table, words):
    with pytest.raises(ValueError, match=words):
        read_table(table)


def test_a_setting_from_the_environment_and_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "config.yaml").write_text(
        "keep_alive: 10m\npreload: [a]\nmodel_options:\n"
        "  '*':\n    flash_attn: on\n  b:\n    preload: true\n    slots: 3\n"
    )
    (tmp_path / "config.yaml").chmod(0o600)
    settings = load_settings(home=tmp_path, worker_id="w")
    assert settings.keep_alive == 600
    assert settings.model_options == {
        "*": ModelOptions(flash_attn=FlashAttention.ON),
        "b": ModelOptions(preload=True, slots=3),
    }
    assert settings.preloaded == ("a", "b")
    monkeypatch.setenv("PENDRA_MODEL_OPTIONS", '{"a": {"preload": false}}')
    assert load_settings(home=tmp_path, worker_id="w").preloaded == ()


def test_a_bad_option_is_a_config_error_that_says_where_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PENDRA_MODEL_OPTIONS", '{"m": {"slots": 0}}')
    with pytest.raises(ConfigError) as caught:
        load_settings(home=tmp_path, worker_id="w")
    for word in ("PENDRA_MODEL_OPTIONS", "from the environment", "m.slots is 0", "1 to 64"):
        assert word in caught.value.message


def test_a_bad_time_is_a_config_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PENDRA_KEEP_ALIVE", "soon")
    with pytest.raises(ConfigError, match=r'PENDRA_KEEP_ALIVE .* is "soon" .*allowed: seconds, or a duration'):
        load_settings(home=tmp_path, worker_id="w")


def test_set_from_the_command_line_it_stands_in_the_file_as_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PENDRA_HOME", str(tmp_path))
    row = settings_edit.set_value(
        "PENDRA_MODEL_OPTIONS", '{"m": {"slots": 2, "flash_attn": "off", "lora": ["a.gguf"]}}'
    )
    said = {"m": {"flash_attn": "off", "slots": 2, "lora": [{"path": "a.gguf", "scale": 1.0}]}}
    assert json.loads(row.text) == said
    assert "  m:\n    flash_attn: 'off'\n    slots: 2\n" in (tmp_path / "config.yaml").read_text()
    settings = load_settings(home=tmp_path)
    assert as_plain(settings.model_options) == said
    (shown,) = (row for row in settings_edit.rows(settings) if row.name == "model_options")
    assert (shown.value, shown.source) == (said, "file")
