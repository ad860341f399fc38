"""The embedding backend: jobs in, OpenAI's and Cohere's replies out; on tiny models and an engine by hand."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tasks.contract import Job, JobKind, Progress
from tasks.errors import BadRequestError, JobCancelledError, UnavailableError, WorkerError
from tests.fakes.backend_parts import RecordingReply, Served
from tests.fakes.tiny_bert import TinyBert, write_tiny_bert
from tests.fakes.waiting import until
from worker.backends import embedding
from worker.backends.base import CancelToken
from worker.backends.embedding import EmbeddingBackend
from worker.engine.api import EngineStats
from worker.engine.embedder import Embedder
from worker.engine.embedder_api import EmbedConfig, EmbedOutput, EmbedRequest, Listener
from worker.engine.model import LoadedModel
from worker.engine.pooling_pairs import PairTokens

EMBED, RANK = JobKind.EMBEDDINGS, JobKind.RERANK


def job(kind: JobKind, *, job_id: str = "j1", stream: bool = False, **body: Any) -> Job:
    return Job(job_id=job_id, model="tiny", kind=kind, stream=stream, body=body, created=1, bridge_id="b")


class World:
    """A backend on a real tiny model."""

    def __init__(self, tiny: TinyBert) -> None:
        self.numpy = tiny.numpy
        self.model = LoadedModel(tiny.path, n_gpu_layers=0)
        self.backend = EmbeddingBackend(self.model, PairTokens(self.model), Embedder(self.model, EmbedConfig()))

    def ask(self, kind: JobKind, **body: Any) -> tuple[dict[str, Any], RecordingReply]:
        asked = job(kind, **body)
        reply = RecordingReply(asked)
        self.backend.serve(asked, reply, CancelToken())
        return json.loads(reply.finished.data), reply

    def refused(self, kind: JobKind, **body: Any) -> BadRequestError:
        with pytest.raises(BadRequestError) as caught:
            self.ask(kind, **body)
        return caught.value

    def expected(self, text: str) -> np.ndarray:
        mean = self.numpy.hidden(self.model.tokenize(text)).mean(axis=0)
        return mean / np.linalg.norm(mean)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(write_tiny_bert(tmp_path_factory.mktemp("mean") / "mean.gguf"))
    yield world
    world.backend.close()


@pytest.fixture(scope="module")
def ranker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    path: Path = tmp_path_factory.mktemp("rank") / "rank.gguf"
    world = World(write_tiny_bert(path, pooling=gguf.PoolingType.RANK))
    yield world
    world.backend.close()


# -------------------------------------------------------------------- embeddings


def test_texts(embedder):
    data, reply = embedder.ask(EMBED, input=["the cat sat.", "berlin"])
    vectors = np.array([row["embedding"] for row in data["data"]])
    np.testing.assert_allclose(vectors, [embedder.expected("the cat sat."), embedder.expected("berlin")], atol=3e-3)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    tokens = len(embedder.model.tokenize("the cat sat.")) + len(embedder.model.tokenize("berlin"))
    assert data["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert reply.finished.usage.prompt_tokens == tokens
    assert reply.finished.timing.worker_queue_wait_ms >= 0


def test_token_ids_are_taken_as_they_are(embedder):
    ids = embedder.model.tokenize("the cat")
    same = [embedder.ask(EMBED, input=value)[0]["data"][0]["embedding"] for value in ("the cat", ids, [ids])]
    assert same[0] == same[1] == same[2]
    bare = embedder.ask(EMBED, input=ids[1:-1])[0]
    assert bare["usage"]["prompt_tokens"] == len(ids) - 2


def test_base64_holds_the_same_vector(embedder):
    floats = embedder.ask(EMBED, input="cat")[0]["data"][0]["embedding"]
    packed = embedder.ask(EMBED, input="cat", encoding_format="base64")[0]["data"][0]["embedding"]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(packed), "<f4"), np.array(floats, dtype=np.float32))


def test_dimensions_cut_and_scale_again(embedder):
    whole = np.array(embedder.ask(EMBED, input="cat")[0]["data"][0]["embedding"])
    cut = np.array(embedder.ask(EMBED, input="cat", dimensions=8)[0]["data"][0]["embedding"])
    np.testing.assert_allclose(cut, whole[:8] / np.linalg.norm(whole[:8]), rtol=1e-5)
    assert len(embedder.ask(EMBED, input="cat", dimensions=32)[0]["data"][0]["embedding"]) == 32
    error = embedder.refused(EMBED, input="cat", dimensions=33)
    assert (error.message, error.param) == ("dimensions is 33; the vectors of tiny have 32", "dimensions")


def test_raw_vectors_on_request(embedder):
    raw = np.array(embedder.ask(EMBED, input="cat", embd_normalize=-1)[0]["data"][0]["embedding"])
    np.testing.assert_allclose(raw / np.linalg.norm(raw), embedder.expected("cat"), atol=3e-3)
    assert abs(np.linalg.norm(raw) - 1) > 0.1


def test_the_input_that_is_too_long_is_named(embedder):
    error = embedder.refused(EMBED, input=["a", "cat " * 63])
    assert error.message == "input[1] has 65 tokens, and tiny reads 64 at most; shorten it or split it"
    assert (error.code, error.param) == ("context_length_exceeded", "input[1]")
    assert embedder.refused(EMBED, input="cat " * 63).message.startswith("input has 65 tokens")
    assert len(embedder.ask(EMBED, input="cat " * 62)[0]["data"]) == 1


def test_unknown_token_ids_are_named(embedder):
    error = embedder.refused(EMBED, input=[[1], [1, 10**6]])
    assert error.message.startswith("input[1] holds token ids that tiny does not have; its last is ")


@pytest.mark.parametrize("kind", [k for k in JobKind if k is not EMBED])
def test_an_embedding_model_does_nothing_else(kind, embedder):
    error = embedder.refused(kind, input="a", messages=[], query="q", documents=["d"])
    assert error.code == "wrong_capability"
    assert error.message == f"the model tiny serves embeddings, not {kind}"


def test_nothing_of_it_streams(embedder):
    with pytest.raises(BadRequestError, match="embeddings cannot be streamed"):
        embedder.backend.serve(job(EMBED, stream=True, input="a"), None, CancelToken())


# ------------------------------------------------------------------------ rerank

DOCUMENTS = ["paris is the capital", "a dog", {"text": "berlin"}, "the mat"]


def test_documents_by_score(ranker):
    data, reply = ranker.ask(RANK, query="capital of paris?", documents=DOCUMENTS, return_documents=True)
    pairs = PairTokens(ranker.model)
    texts = [one["text"] if isinstance(one, dict) else one for one in DOCUMENTS]
    logits = np.array([ranker.numpy.score(pairs.tokens("capital of paris?", text)) for text in texts])
    assert [one["index"] for one in data["results"]] == np.argsort(-logits).tolist()
    expected = 1 / (1 + np.exp(-np.sort(logits)[::-1]))
    np.testing.assert_allclose([one["relevance_score"] for one in data["results"]], expected, atol=3e-3)
    assert [one["document"]["text"] for one in data["results"]] == [texts[one["index"]] for one in data["results"]]
    tokens = sum(len(pairs.tokens("capital of paris?", text)) for text in texts)
    assert data["usage"]["prompt_tokens"] == reply.finished.usage.prompt_tokens == tokens


def test_top_n(ranker):
    every = ranker.ask(RANK, query="cat", documents=DOCUMENTS)[0]["results"]
    assert ranker.ask(RANK, query="cat", documents=DOCUMENTS, top_n=2)[0]["results"] == every[:2]


def test_raw_scores_are_logits(ranker):
    shown = ranker.ask(RANK, query="cat", documents=DOCUMENTS)[0]["results"]
    raw = ranker.ask(RANK, query="cat", documents=DOCUMENTS, raw_scores=True)[0]["results"]
    probabilities = [1 / (1 + np.exp(-one["relevance_score"])) for one in raw]
    np.testing.assert_allclose(probabilities, [one["relevance_score"] for one in shown], rtol=1e-6)


def test_the_document_that_is_too_long_is_named(ranker):
    error = ranker.refused(RANK, query="cat", documents=["a", "cat " * 80])
    assert error.message.startswith("documents[1] together with the query has 83 tokens, and tiny reads 64 at most")
    assert (error.code, error.param) == ("context_length_exceeded", "documents[1]")


def test_a_reranker_does_not_embed(ranker):
    assert ranker.refused(EMBED, input="a").message == "the model tiny serves rerank, not embeddings"


# ------------------------------------------------------------ an engine by hand


class HandModel:
    n_vocab = 1000

    def __init__(self) -> None:
        self.closed = 0

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        return [ord(char) for char in text.strip()]

    def close(self) -> None:
        self.closed += 1


class HandEngine:
    """Does nothing by itself: the test says what comes out."""

    ctx_limit, width, ranks = 10, 2, False

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: dict[str, tuple[EmbedRequest, Listener]] = {}
        self.error = error
        self.closed = 0

    def start(self) -> None:
        if self.error is not None:
            raise self.error

    def submit(self, request: EmbedRequest, listener: Listener) -> None:
        self.asked[request.request_id] = (request, listener)

    def put(self, request_id: str = "j1:0", done: int = 1, **more: Any) -> None:
        request, listener = self.asked[request_id]
        listener(EmbedOutput(request_id, done, len(request.inputs), **more))

    def cancel(self, request_id: str) -> None:
        self.put(request_id, error=JobCancelledError("the request was cancelled"))

    def stats(self) -> EngineStats:
        return EngineStats(4, len(self.asked), 0, 0, 0, 0, 0, 0, 0)

    def close(self) -> None:
        self.closed += 1
        for request_id in self.asked:
            self.put(request_id, error=UnavailableError("gone", code="draining"))


class Hand:
    def __init__(self) -> None:
        self.model, self.engine = HandModel(), HandEngine()
        self.backend = EmbeddingBackend(self.model, None, self.engine)
        self.cancel = CancelToken()

    def begin(self, *inputs: str) -> tuple[RecordingReply, Served]:
        asked = job(EMBED, input=list(inputs))
        reply = RecordingReply(asked)
        served = Served(partial(self.backend.serve, asked, reply, self.cancel))
        until(lambda: self.engine.asked or not served.is_alive())
        return reply, served


def test_progress_is_told_when_it_takes_long(monkeypatch):
    monkeypatch.setattr(embedding, "_PROGRESS_EVERY_S", 0.0)
    hand = Hand()
    reply, served = hand.begin("a", "b", "c", "d")
    hand.engine.put(done=1)
    hand.engine.put(done=4, vectors=np.ones((4, 2), dtype=np.float32))
    assert served.done() is None
    (progress,) = (event for event in reply.events if isinstance(event, Progress))
    assert (progress.stage, progress.fraction) == ("embedding", 0.25)
    assert len(json.loads(reply.finished.data)["data"]) == 4


def test_no_progress_before_it_is_due():
    hand = Hand()
    reply, served = hand.begin("a", "b")
    hand.engine.put(done=1)
    hand.engine.put(done=2, vectors=np.ones((2, 2), dtype=np.float32))
    assert served.done() is None
    assert len(reply.events) == 1


def test_cancel_reaches_the_engine():
    hand = Hand()
    reply, served = hand.begin("a")
    hand.cancel.cancel()
    assert isinstance(served.done(), JobCancelledError)
    assert reply.events == []


def test_cancelled_before_it_began():
    hand = Hand()
    hand.cancel.cancel()
    assert isinstance(hand.begin("a")[1].done(), JobCancelledError)
    assert hand.engine.asked == {}


def test_an_error_of_the_engine_is_raised():
    hand = Hand()
    _, served = hand.begin("a")
    hand.engine.put(error=WorkerError("broken"))
    assert str(served.done()) == "broken"


def test_text_without_tokens_is_named():
    error = Hand().begin("a", "  ")[1].done()
    assert isinstance(error, BadRequestError)
    assert error.message == "input[1] has no tokens; there is nothing to read"


def test_close_ends_what_runs_and_frees_the_model():
    hand = Hand()
    _, served = hand.begin("a")
    hand.backend.close()
    hand.backend.close()
    assert served.done().code == "draining"
    assert (hand.model.closed, hand.engine.closed) == (1, 1)
    assert isinstance(hand.begin("b")[1].done(), UnavailableError)


def test_the_model_is_closed_when_the_engine_does_not_start():
    model = HandModel()
    with pytest.raises(WorkerError):
        EmbeddingBackend(model, None, HandEngine(WorkerError("no")))
    assert model.closed == 1


def test_what_the_runtime_asks():
    hand = Hand()
    assert hand.backend.context_length == 10
    assert hand.backend.stats().slots_total == 4
