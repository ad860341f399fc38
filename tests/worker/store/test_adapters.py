"""Adapters are files of the store and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.errors import WorkerError
from tasks.model_options import LoraRef
from worker.engine.config import Adapter
from worker.store.adapters import located
from worker.store.sidecar import adapters_of


def test_one_in_a_folder_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "a.gguf").touch()
    found = located(tmp_path, [LoraRef(path="loras/a.gguf", scale=0.5)])
    assert found == (Adapter(tmp_path / "loras" / "a.gguf", 0.5),)


@pytest.mark.parametrize("way", ["../secret.gguf", "/etc/passwd", "link.gguf", "loras/../../secret.gguf"])
def test_no_way_leads_out_of_the_store(tmp_path: Path, way: str) -> None:
    store = tmp_path / "store"
    (store / "loras").mkdir(parents=True)
    (tmp_path / "secret.gguf").touch()
    (store / "link.gguf").symlink_to(tmp_path / "secret.gguf")
    with pytest.raises(WorkerError, match="outside the model store") as caught:
        located(store, [LoraRef(path=way)])
    assert caught.value.code == "bad_adapter"


def test_one_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"a\.gguf is not in the model store; copy it there"):
        located(tmp_path, [LoraRef(path="a.gguf")])


def test_what_an_operator_wrote_into_a_sidecar_is_kept(tmp_path: Path) -> None:
    model = tmp_path / "m.gguf"
    assert adapters_of(model) == ()
    sidecar = tmp_path / "m.gguf.meta.json"
    sidecar.write_text(json.dumps({"lora": [{"path": "a.gguf"}]}))
    assert adapters_of(model) == (LoraRef(path="a.gguf"),)
    sidecar.write_text("{")
    assert adapters_of(model) == ()
