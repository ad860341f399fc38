"""A model that is larger than the whole device is known before anybody tries."""

from __future__ import annotations

from pathlib import Path

from tasks.settings import load_settings
from tests.fakes.tiny_llama import write_tiny_llama
from worker.options import Options
from worker.room import TooLarge
from worker.store.catalogue import Catalogue

MB = 1024**2


def test_a_model_larger_than_the_device(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "tiny.gguf")
    settings = load_settings(home=tmp_path / "home", models_dir=tmp_path)
    (entry,) = Catalogue(tmp_path, None).entries()
    asked: list[Options] = []

    def whole(size: int | None) -> TooLarge:
        def look(options: Options) -> int | None:
            asked.append(options)
            return size

        return TooLarge(settings, look)

    assert entry in whole(MB)
    assert entry not in whole(4096 * MB)
    assert entry not in whole(None), "nobody knows"
    asked.clear()
    once = whole(MB)
    assert [entry in once for _ in range(3)] == [True] * 3
    assert len(asked) == 1
