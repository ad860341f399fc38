"""The only caller of `llama_decode` for embeddings. Owns one llama_context, used by the embedding thread only.

Nothing is kept between two batches: each input is a sequence of its own, and forgotten when its vector is read.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from llama_cpp import llama_cpp as lib

from tasks.errors import WorkerError
from worker.engine import adapters, log, native
from worker.engine.attention_tile import TILE, worth_filling
from worker.engine.embedder_api import EmbedConfig, Floats
from worker.engine.load_errors import load_error
from worker.engine.model import LoadedModel
from worker.store.gguf import Pooling

_INT32 = ctypes.POINTER(ctypes.c_int32)


class PoolingContext:
    """Raises WorkerError: out_of_memory, …, or unsupported_architecture for a model that does not pool.

    `limit`: the most tokens of one input. `width`: numbers a vector has (a reranker's scores). `ranks`: the vectors
    are scores. `keeps_nothing`: it has no memory for earlier tokens, so it is small. `shortest`: an input to try it.
    """

    def __init__(self, model: LoadedModel, config: EmbedConfig) -> None:
        self._ctx: Any = None
        self.limit = min(config.ctx_per_input, model.n_ctx_train or config.ctx_per_input)
        # A model that reads its text strictly forwards and pools its last token takes long inputs in parts. All
        # others must see an input as a whole.
        most = max(config.pack_tokens, self.limit)
        room = config.pack_tokens if _in_parts(model, config) else most
        sequences = min(config.pack_inputs, room)
        room += -room % sequences  # llama.cpp asserts while it makes the context when it does not divide
        self._ctx = _new_context(model, config, n_batch=room, sequences=sequences, cells=max(most, room))
        try:
            self._look(model)
        except BaseException:
            self.close()
            raise
        self.shortest = (max(0, model.vocab.bos),)
        self._threads = config.threads
        self._sequences = sequences
        # What fills a batch up has places from 0 on as any input; beyond the model's last place llama.cpp aborts.
        fill = self.keeps_nothing and config.on_cpu and self.limit >= TILE
        self._fill_from = worth_filling(*_sizes(model)) if fill else TILE
        self._batch = _Batch(room)

    def _look(self, model: LoadedModel) -> None:
        """What llama.cpp made of the model."""
        self._memory = lib.llama_get_memory(self._ctx)
        self.keeps_nothing = not self._memory
        pooling = Pooling(lib.llama_pooling_type(self._ctx))
        if pooling is Pooling.NONE:
            raise _unpooled(model)
        self.ranks = pooling is Pooling.RANK
        self.width: int = (lib.llama_model_n_cls_out if self.ranks else lib.llama_model_n_embd_out)(model.handle)

    def close(self) -> None:
        """Free the context. Idempotent."""
        ctx, self._ctx = self._ctx, None
        if ctx is not None:
            lib.llama_free(ctx)

    @property
    def threads(self) -> int:
        """How many compute."""
        return self._threads

    @threads.setter
    def threads(self, count: int) -> None:
        self._threads = count
        lib.llama_set_n_threads(self._ctx, count, count)

    def run(self, inputs: Sequence[Sequence[int]]) -> Floats:
        """The pooled vectors of these inputs, a row each, as llama.cpp gives them.

        All inputs together are at most `pack_tokens` long, or it is one of at most `limit`. Raises WorkerError.
        """
        rows = np.empty((len(inputs), self.width), dtype=np.float32)
        tokens = np.concatenate([np.asarray(one, dtype=np.int32) for one in inputs])
        places = np.concatenate([np.arange(len(one), dtype=np.int32) for one in inputs])
        owners = np.repeat(np.arange(len(inputs), dtype=np.int32), [len(one) for one in inputs])
        if self._fill_from <= len(tokens) < TILE and len(inputs) < self._sequences:
            tokens, places, owners = _filled(tokens, places, owners)
        room = self._batch.capacity
        try:
            for at in range(0, len(tokens), room):
                part = slice(at, at + room)
                self._decode(tokens[part], places[part], owners[part])
                for owner in np.unique(owners[part]):
                    if owner < len(inputs):
                        rows[owner] = self._vector(int(owner))  # of an input in parts, the last part's vector stays
        finally:
            if self._memory:
                native.memory_clear(self._memory, False)  # noqa: FBT003  # a C call
        return rows

    def _decode(self, tokens: Any, places: Any, owners: Any) -> None:
        self._batch.fill(tokens, places, owners)
        code = native.decode(self._ctx, self._batch.struct)
        if code != 0:
            raise WorkerError(f"the embedding model failed on a batch (llama.cpp code {code}); try again")

    def _vector(self, owner: int) -> Floats:
        address = lib.llama_get_embeddings_seq(self._ctx, owner)
        if not address:
            raise WorkerError("llama.cpp gave no vector for an input")
        vector: Floats = np.ctypeslib.as_array(address, shape=(self.width,))
        return vector


class _Batch:
    """A llama_batch over numpy arrays of our own, each token in exactly one sequence and each an output."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._token, self._pos, self._seq = (np.zeros(capacity, dtype=np.int32) for _ in range(3))
        self._ones = np.ones(capacity, dtype=np.int32)
        self._output = np.ones(capacity, dtype=np.int8)
        # seq_id[i] points at _seq[i], so that writing _seq is enough
        self._seq_at = self._seq.ctypes.data + np.arange(capacity, dtype=np.uintp) * self._seq.itemsize
        self.struct = lib.llama_batch(
            0,
            self._token.ctypes.data_as(_INT32),
            None,
            self._pos.ctypes.data_as(_INT32),
            self._ones.ctypes.data_as(_INT32),
            self._seq_at.ctypes.data_as(ctypes.POINTER(_INT32)),
            self._output.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def fill(self, tokens: Any, places: Any, owners: Any) -> None:
        count = len(tokens)
        self._token[:count], self._pos[:count], self._seq[:count] = tokens, places, owners
        self.struct.n_tokens = count


def _filled(tokens: Any, places: Any, owners: Any) -> tuple[Any, Any, Any]:
    """The batch with another sequence, up to a tile."""
    more = TILE - len(tokens)
    return (
        np.append(tokens, np.repeat(tokens[:1], more)),
        np.append(places, np.arange(more, dtype=np.int32)),
        np.append(owners, np.repeat(owners[-1:] + 1, more)),
    )


def _sizes(model: LoadedModel) -> tuple[int, int]:
    """The weights that each token is multiplied with, and the attention heads of all layers."""
    heads: int = lib.llama_model_n_head(model.handle)
    return max(0, model.n_params - model.n_vocab * model.n_embd), heads * model.n_layer


def _in_parts(model: LoadedModel, config: EmbedConfig) -> bool:
    arch = model.metadata.get("general.architecture", "")
    if model.metadata.get(f"{arch}.attention.causal", "true") == "false":
        return False
    stated = (
        config.pooling if config.pooling is not None else model.metadata.get(f"{arch}.pooling_type", Pooling.NONE)
    )
    return int(stated) in (Pooling.LAST, Pooling.RANK)


def _new_context(model: LoadedModel, config: EmbedConfig, *, n_batch: int, sequences: int, cells: int) -> Any:
    params = lib.llama_context_default_params()
    params.embeddings = True
    params.n_ctx = cells
    params.n_batch = params.n_ubatch = n_batch
    params.n_seq_max = sequences
    params.kv_unified = True
    params.n_threads = params.n_threads_batch = config.threads
    params.no_perf = True
    if config.pooling is not None:
        params.pooling_type = int(config.pooling)
    with log.captured() as complaints:
        ctx = lib.llama_init_from_model(model.handle, params)
    if not ctx:
        raise load_error(model.path, complaints)
    return adapters.applied(ctx, model)


def _unpooled(model: LoadedModel) -> WorkerError:
    return WorkerError(
        f"{model.path.name} does not say how the vectors of a text's tokens become one (pooling_type), so it cannot "
        "serve embeddings; install a model made for them",
        code="unsupported_architecture",
    )
