"""The embedding engine on tiny random models, held against numpy: pooling, packing, faults, cancels, closing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gguf
import numpy as np
import pytest

from tasks.errors import BadRequestError, ConfigError, JobCancelledError, UnavailableError, WorkerError
from tests.fakes.tiny_bert import TinyBert, write_tiny_bert
from tests.fakes.waiting import until
from worker.engine.embedder import Embedder
from worker.engine.embedder_api import EmbedConfig, EmbedOutput, EmbedRequest
from worker.engine.model import LoadedModel
from worker.engine.pooling import PoolingContext
from worker.engine.pooling_pairs import PairTokens
from worker.store.gguf import Pooling

DEADLINE_S = 30
TEXTS = ("the cat sat on the mat.", "a", "berlin", "dogs sitting on 42 mats?", "the capital of paris, the capital!")


class Harness:
    """An engine, its model, and what came out for each request."""

    def __init__(self, path: Path, **settings: object) -> None:
        self.model = LoadedModel(path, n_gpu_layers=0)
        self.engine = Embedder(self.model, EmbedConfig(**settings))
        self.outputs: dict[str, list[EmbedOutput]] = {}
        self._changed = threading.Condition()

    def close(self) -> None:
        self.engine.close()
        self.model.close()

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
            outputs = self.outputs.setdefault(output.request_id, [])
            assert not outputs or not outputs[-1].last, "an output after the last one"
            outputs.append(output)
            self._changed.notify_all()


@pytest.fixture(scope="session")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TinyBert]:
    folder = tmp_path_factory.mktemp("bert")
    return lambda pooling: write_tiny_bert(folder / f"{pooling.name}.gguf", pooling=pooling)


@pytest.fixture
def start() -> Iterator[Callable[..., Harness]]:
    """Starts an engine on a file (keyword arguments are EmbedConfig's); it is closed after the test."""
    started: list[Harness] = []

    def begin(path: Path, **settings: object) -> Harness:
        started.append(Harness(path, **settings))
        started[-1].engine.start()
        return started[-1]

    yield begin
    for harness in started:
        harness.close()


@pytest.fixture
def mean(write, start) -> Harness:
    return start(write(gguf.PoolingType.MEAN).path)


@contextmanager
def held(harness: Harness) -> Iterator[None]:
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


# ----------------------------------------------------------------------- numbers

POOLED = {
    gguf.PoolingType.MEAN: lambda hidden: hidden.mean(axis=0),
    gguf.PoolingType.CLS: lambda hidden: hidden[0],
    gguf.PoolingType.LAST: lambda hidden: hidden[-1],
}


@pytest.mark.parametrize("pooling", POOLED)
def test_pooled_as_the_file_says(pooling, write, start):
    tiny = write(pooling)
    harness = start(tiny.path)
    inputs = [harness.ids(text) for text in TEXTS]
    expected = np.stack([POOLED[pooling](tiny.numpy.hidden(ids)) for ids in inputs])
    vectors = harness.run(*inputs)
    np.testing.assert_allclose(vectors, expected, atol=1e-2)  # ggml computes GELU from a table in f16
    assert cosines(vectors, expected).min() > 0.99999
    assert (harness.engine.ranks, harness.engine.width) == (False, 32)


def test_ranks(write, start):
    tiny = write(gguf.PoolingType.RANK)
    harness = start(tiny.path)
    pairs = PairTokens(harness.model)
    inputs = [pairs.tokens("capital of paris?", text) for text in TEXTS]
    cls, sep = harness.model.tokenize("")
    assert inputs[1] == (cls, *harness.model.tokenize("capital of paris?")[1:-1], sep, harness.ids("a")[1])
    scores = harness.run(*inputs)
    assert scores.shape == (5, 1)
    np.testing.assert_allclose(scores[:, 0], [tiny.numpy.score(ids) for ids in inputs], atol=1e-2)
    assert harness.engine.ranks
    assert not pairs.probabilities


def test_how_inputs_are_packed_does_not_change_their_vectors(write, start):
    tiny = write(gguf.PoolingType.MEAN)
    together, alone = start(tiny.path), start(tiny.path, pack_inputs=1)
    inputs = [together.ids(text) for text in TEXTS]
    np.testing.assert_allclose(together.run(*inputs), alone.run(*inputs), atol=1e-2)
    assert (together.engine.stats().steps, alone.engine.stats().steps) == (1, 5)


def test_one_batch_serves_several_requests(mean):
    inputs = [mean.ids(text) for text in TEXTS]
    with held(mean):
        for number, ids in enumerate(inputs):
            mean.submit(f"r{number}", ids)
    got = np.concatenate([mean.wait(f"r{number}").vectors for number in range(5)])
    assert mean.engine.stats().steps == 2
    np.testing.assert_allclose(got, mean.run(*inputs), atol=1e-3)


@pytest.mark.parametrize(("ctx", "tokens", "inputs"), [(63, 50, 64), (61, 7, 3), (1, 1, 256), (64, 100, 33)])
def test_odd_sizes(ctx, tokens, inputs, write, start):
    harness = start(write(gguf.PoolingType.MEAN).path, ctx_per_input=ctx, pack_tokens=tokens, pack_inputs=inputs)
    assert harness.run(*[(1,) * ctx, (2,)] * 70).shape == (140, 32)


def test_a_causal_model_reads_long_inputs_in_parts(tiny_path, start):
    """Last-token pooling with a KV cache: in parts of 16 tokens the same vector as at once."""
    parts = start(tiny_path, pooling=Pooling.LAST, ctx_per_input=200, pack_tokens=16)
    whole = start(tiny_path, pooling=Pooling.LAST, ctx_per_input=200, pack_tokens=256)
    inputs = [parts.ids("the quick brown fox " * n) for n in (1, 3, 9)]
    assert max(map(len, inputs)) > 100
    a, b = parts.run(*inputs), whole.run(*inputs)
    assert cosines(a, b).min() > 0.999
    assert cosines(a[:1], a[2:]).max() < 0.99
    np.testing.assert_array_equal(parts.run(*inputs), a)  # nothing is left of the batch before


def test_a_causal_model_that_averages_reads_inputs_whole(tiny_path, start):
    harness = start(tiny_path, pooling=Pooling.MEAN, ctx_per_input=200, pack_tokens=16)
    assert harness.run(harness.ids("the quick brown fox " * 9)).shape == (1, 64)


# ------------------------------------------------------------------------- lanes


@pytest.fixture
def two_lanes(write, start) -> Harness:
    harness = start(write(gguf.PoolingType.MEAN).path, threads=3, lanes=2, pack_tokens=64)
    assert [(lane._threads, lane._alone) for lane in harness.engine._lanes] == [(2, 3), (1, 3)]
    return harness


def test_two_lanes_serve_one_request_together(two_lanes, mean):
    inputs = [two_lanes.ids(text) for text in TEXTS] * 20
    np.testing.assert_allclose(two_lanes.run(*inputs), mean.run(*inputs), atol=1e-2)  # other batches, other sums
    done = [output.done for output in two_lanes.outputs["run-0"]]
    assert done == sorted(done)
    assert done[-1] == 100


def test_a_second_lane_works_while_the_first_is_held_up(two_lanes):
    with held(two_lanes):
        two_lanes.submit("a tile", *[(1, 2, 3, 4)] * 16)
        assert two_lanes.wait("a tile").vectors is not None


def test_what_is_little_waits_for_more_while_another_lane_works(two_lanes):
    with held(two_lanes):
        steps = two_lanes.engine.stats().steps
        two_lanes.submit("little", (1, 2), (3,))
        assert (two_lanes.engine.stats().waiting, two_lanes.engine.stats().steps) == (1, steps)
    assert two_lanes.wait("little").vectors is not None


def test_long_inputs_belong_to_the_first_lane(write, start, monkeypatch):
    monkeypatch.setattr("worker.engine.embedder._SHORT", 16)
    harness = start(write(gguf.PoolingType.MEAN).path, threads=2, lanes=2, pack_tokens=16)
    first, second = harness.engine._lanes
    assert (first._context.limit, second._context.limit) == (64, 16)
    for _ in range(20):
        harness.run((1,) * 64)
    assert (first.tokens, second.tokens) == (20 * 64, 0)


def test_one_that_computes_alone_takes_all_threads(two_lanes):
    two_lanes.run((1, 2))
    assert 3 in {lane._context.threads for lane in two_lanes.engine._lanes}
    with held(two_lanes):
        two_lanes.run(*[(1, 2)] * 32)
        assert {1, 2} & {lane._context.threads for lane in two_lanes.engine._lanes}


def test_many_requests_from_many_threads_each_end_once(two_lanes):
    def client(name: str) -> None:
        for number in range(25):
            two_lanes.submit(f"{name}-{number}", (1, 2), (number + 1,), *[(3,) * 10] * (number % 5))
            if number % 4 == 0:
                two_lanes.engine.cancel(f"{name}-{number}")

    clients = [threading.Thread(target=client, args=(f"c{n}",)) for n in range(6)]
    for one in clients:
        one.start()
    for one in clients:
        one.join(DEADLINE_S)
    for name in range(6):
        for number in range(25):
            output = two_lanes.wait(f"c{name}-{number}")
            assert output.error is None or (number % 4 == 0 and isinstance(output.error, JobCancelledError))
    stats = two_lanes.engine.stats()
    assert (stats.slots_busy, stats.waiting) == (0, 0)


def test_a_lane_that_does_not_fit_is_done_without(write, start, monkeypatch):
    made = []

    def context(model, config):
        if made:
            raise WorkerError("no", code="out_of_memory")
        made.append(PoolingContext(model, config))
        return made[0]

    monkeypatch.setattr("worker.engine.embedder.PoolingContext", context)
    harness = start(write(gguf.PoolingType.MEAN).path, threads=2, lanes=2)
    assert len(harness.engine._lanes) == 1
    assert harness.run((1, 2)).shape == (1, 32)


def test_a_model_with_a_memory_has_one_lane(tiny_path, start):
    harness = start(tiny_path, pooling=Pooling.LAST, ctx_per_input=200, threads=2, lanes=2)
    assert len(harness.engine._lanes) == 1


# ------------------------------------------------------------------------ faults


def test_bad_inputs_are_named(mean):
    good = (1, 2)
    for bad, words, code in (
        ((), "there is nothing to embed", "bad_request"),
        ((good, ()), "input 1 is empty", "bad_request"),
        ((good, good, (1,) * 65), "input 2 has 65 tokens; this model takes 64 at most", "context_length_exceeded"),
        (((10**6,),), "input 0 holds token ids outside this model's 0 to", "bad_request"),
        (((-1,),), "input 0 holds token ids", "bad_request"),
    ):
        with pytest.raises(BadRequestError, match=words) as caught:
            mean.submit("bad", *bad)
        assert caught.value.code == code
    assert mean.run((1,) * 64).shape == (1, 32)


def test_only_the_one_at_fault_fails(mean):
    real = mean.engine._lanes[0]._context.run

    def run(inputs):
        if any(7 in one for one in inputs):
            raise WorkerError("no")
        return real(inputs)

    mean.engine._lanes[0]._context.run = run
    with held(mean):
        mean.submit("good", (1, 2), (3, 4))
        mean.submit("bad", (5,), (7,), (6,))
    assert mean.wait("good").error is None
    assert mean.wait("bad").error.message == "no"
    assert mean.engine.stats().slots_busy == 0


def test_no_vector_that_is_not_a_number(mean):
    mean.engine._lanes[0]._context.run = lambda inputs: np.array(
        [[len(one), np.nan][len(one) > 1] for one in inputs]
    )[:, None]
    mean.submit("bad", (1,), (1, 2), (1, 2, 3))
    assert mean.wait("bad").error.message == "the model gave numbers that are none for input 1"


def test_an_unknown_fault_is_not_quoted(mean):
    def broken(_inputs):
        raise ValueError("secret")

    mean.engine._lanes[0]._context.run = broken
    mean.submit("a", (1,))
    assert mean.wait("a").error.message == "the embedding engine failed; try again"


def test_a_broken_listener_costs_nobody_else(mean):
    def broken(_output):
        raise ValueError

    mean.engine.submit(EmbedRequest("broken", ((1,),)), broken)
    assert mean.run((1, 2)).shape == (1, 32)


def test_a_model_that_does_not_pool(tiny_path):
    harness = Harness(tiny_path)
    with pytest.raises(WorkerError, match="cannot serve embeddings") as caught:
        harness.engine.start()
    assert caught.value.code == "unsupported_architecture"
    harness.close()


@pytest.mark.parametrize("bad", [{"pack_tokens": 0}, {"pack_inputs": 257}, {"threads": 0}, {"ctx_per_input": 0}])
def test_settings_are_checked(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        EmbedConfig(**bad)


# ----------------------------------------------------------------- cancel, close


def test_cancel_between_batches(write, start):
    harness = start(write(gguf.PoolingType.MEAN).path, pack_inputs=1)
    reached, go = threading.Event(), threading.Event()
    outputs = []

    def listener(output: EmbedOutput) -> None:
        outputs.append(output)
        reached.set()
        assert go.wait(DEADLINE_S)

    harness.engine.submit(EmbedRequest("long", ((1, 2),) * 100), listener)
    assert reached.wait(DEADLINE_S)
    harness.engine.cancel("long")
    harness.engine.cancel("never heard of")
    go.set()
    harness.run((1, 2))
    assert (outputs[0].done, outputs[0].total, outputs[0].last) == (1, 100, False)
    assert isinstance(outputs[-1].error, JobCancelledError)
    assert harness.engine.stats().steps <= 3
    harness.submit("long", (1, 2))
    assert harness.wait("long").vectors is not None


def test_one_request_of_a_name(mean):
    with held(mean):
        mean.submit("same", (1,))
        with pytest.raises(BadRequestError, match="running already"):
            mean.submit("same", (1,))
    mean.wait("same")


def test_close_ends_what_runs(mean):
    closer = threading.Thread(target=mean.engine.close)
    with held(mean):
        mean.submit("waiting", (1,))
        closer.start()
        until(lambda: mean.engine._desk._closed)
    closer.join(DEADLINE_S)
    assert mean.wait("waiting").error.code == "draining"
    with pytest.raises(UnavailableError):
        mean.submit("late", (1,))
    mean.engine.close()
