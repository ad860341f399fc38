"""An embedding engine and what came out of it for each request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from worker.engine.embedder import Embedder
from worker.engine.embedder_api import EmbedConfig, EmbedOutput, EmbedRequest
from worker.engine.model import LoadedModel

DEADLINE_S = 30
TEXTS = ("the cat sat on the mat.", "a", "berlin", "dogs sitting on 42 mats?", "the capital of paris, the capital!")


class EmbedHarness:
    """An engine, its model, and what came out for each request."""

    def __init__(self, path: Path, **settings: object) -> None:
        self.model = LoadedModel(path, n_gpu_layers=0)
        self.engine = Embedder(self.model, EmbedConfig(**settings))
        self.outputs: dict[str, list[EmbedOutput]] = {}
        self._changed = threading.Condition()

    def close(self) -> None:
        self.engine.close()
        self.model.close()
        for request_id, outputs in self.outputs.items():
            assert not any(output.last for output in outputs[:-1]), f"{request_id} had an output after the last one"

    def ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.model.tokenize(text, parse_special=True))

    def submit(self, request_id: str, *inputs: tuple[int, ...]) -> None:
        self.engine.submit(EmbedRequest(request_id, inputs), self._take)

    def wait(self, request_id: str) -> EmbedOutput:
        with self._changed:
            done = self._changed.wait_for(lambda: self._last(request_id) is not None, DEADLINE_S)
        assert done, f"{request_id} did not end in {DEADLINE_S} s"
        return self._last(request_id)

    def run(self, *inputs: tuple[int, ...]) -> np.ndarray:
        request_id = f"run-{len(self.outputs)}"
        self.submit(request_id, *inputs)
        output = self.wait(request_id)
        assert output.error is None
        return output.vectors

    def _last(self, request_id: str) -> EmbedOutput | None:
        outputs = self.outputs.get(request_id)
        return outputs[-1] if outputs and outputs[-1].last else None

    def _take(self, output: EmbedOutput) -> None:
        with self._changed:
            self.outputs.setdefault(output.request_id, []).append(output)
            self._changed.notify_all()


@contextmanager
def held(harness: EmbedHarness) -> Iterator[None]:
    """The engine's thread stands still after a batch."""
    reached, go = threading.Event(), threading.Event()

    def listener(_output: EmbedOutput) -> None:
        reached.set()
        go.wait(DEADLINE_S)

    harness.engine.submit(EmbedRequest("held", ((1,),)), listener)
    assert reached.wait(DEADLINE_S)
    yield
    go.set()


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
