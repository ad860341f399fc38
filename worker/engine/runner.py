"""The only caller of `llama_decode`. Owns one llama_context and one batch, both used by the engine thread only."""

from __future__ import annotations

import ctypes
from types import TracebackType
from typing import Any, Self

import numpy as np
from llama_cpp import llama_cpp as lib

from tasks.errors import WorkerError
from worker.engine import adapters, log, native
from worker.engine.config import EngineConfig
from worker.engine.load_errors import load_error
from worker.engine.model import KV_TYPES, LoadedModel
from worker.engine.sampling import Floats
from worker.engine.scheduler import Plan
from worker.engine.sequence import Sequence

_NO_SLOT = 1
_FLASH_ATTN = {
    None: lib.LLAMA_FLASH_ATTN_TYPE_AUTO,
    False: lib.LLAMA_FLASH_ATTN_TYPE_DISABLED,
    True: lib.LLAMA_FLASH_ATTN_TYPE_ENABLED,
}


LEAST_COPY = 64
"""Tokens that must be gained before a stream is copied: evaluating fewer is as quick."""


class NoRoomError(Exception):
    """llama.cpp found no KV cells for the batch; nothing was evaluated."""


class Runner:
    """Runs plans; implements `scheduler.Memory`. Raises WorkerError (out_of_memory, …) if no context can be made."""

    def __init__(self, model: LoadedModel, config: EngineConfig) -> None:
        self._n_vocab = model.n_vocab
        self._rewinds = model.can_rewind
        self._ctx: Any = None
        self._ctx = _new_context(model, config)
        self._memory = lib.llama_get_memory(self._ctx)
        self._batch = _Batch(config.n_batch)
        self._views: dict[tuple[int, int], Floats] = {}
        self.cells: int = lib.llama_n_ctx(self._ctx)
        self.sharing = self._rewinds
        """Whether a slot can take over the prefix of another one."""
        self.least_share = 1 if config.unified else LEAST_COPY
        self._copies = not config.unified
        self._held = [0] * config.slots

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free the context. Idempotent."""
        ctx, self._ctx = self._ctx, None
        self._views.clear()
        if ctx is not None:
            lib.llama_free(ctx)

    def warm_up(self, token: int) -> None:
        """Evaluate one token and forget it: the first request finds weights and buffers in place.

        Raises WorkerError when even that fails.
        """
        lib.llama_set_warmup(self._ctx, True)  # noqa: FBT003  # a C call
        self._batch.fill_one(token)
        code = native.decode(self._ctx, self._batch.struct)
        native.get_logits(self._ctx)
        lib.llama_set_warmup(self._ctx, False)  # noqa: FBT003  # a C call
        self.clear()
        if code != 0:
            raise WorkerError(f"the model loads but does not run: llama_decode failed with code {code}")

    def run(self, plan: Plan) -> Floats | None:
        """Evaluate the plan's tokens. Returns logits, a row for each of `plan.sampled()`; None when that is empty.

        The rows are llama.cpp's own buffer: valid until the next call, and may be written to. Raises NoRoomError, or
        WorkerError when the decode failed (then nobody knows what the cache holds: `clear` it).
        """
        rows = self._batch.fill(plan)
        code = native.decode(self._ctx, self._batch.struct)
        if code == _NO_SLOT:
            raise NoRoomError
        if code != 0:
            raise WorkerError(f"llama_decode failed with code {code}")
        self._note(plan)
        return self._logits(rows) if rows else None

    def truncate(self, slot: int, keep: int) -> int:
        held = self._held[slot]
        if keep < held and not native.memory_seq_rm(self._memory, slot, keep, -1):
            native.memory_seq_rm(self._memory, slot, -1, -1)
            keep = 0
        self._held[slot] = min(keep, held)
        return self._held[slot]

    def share(self, donor: int, slot: int, count: int) -> int:
        if self._copies:  # between streams llama.cpp copies everything or nothing, before the next decode
            native.memory_seq_cp(self._memory, donor, slot, -1, -1)
            native.memory_seq_rm(self._memory, slot, count, -1)
        else:
            native.memory_seq_cp(self._memory, donor, slot, 0, count)
        self._held[slot] = count
        return count

    def clear(self) -> None:
        """Empty the whole KV cache."""
        native.memory_clear(self._memory, False)  # noqa: FBT003  # a C call
        self._held = [0] * len(self._held)

    def _note(self, plan: Plan) -> None:
        held = self._held
        for seq in plan.decode:
            held[seq.slot] += 1
        for seq in plan.drafted:
            held[seq.slot] += len(seq.draft)
        for seq, count in plan.prefill:
            held[seq.slot] += count

    def _logits(self, rows: int) -> Floats:
        address = native.get_logits(self._ctx)
        if not address:
            raise WorkerError("llama.cpp returned no logits")
        view = self._views.get((address, rows))
        if view is None:
            if len(self._views) > 2 * len(self._held):
                self._views.clear()
            buffer = (ctypes.c_float * (rows * self._n_vocab)).from_address(address)
            view = np.ctypeslib.as_array(buffer).reshape(rows, self._n_vocab)
            self._views[address, rows] = view
        return view


class _Batch:
    """A llama_batch over numpy arrays of our own, each token in exactly one sequence."""

    def __init__(self, capacity: int) -> None:
        self._token = np.zeros(capacity, dtype=np.int32)
        self._pos = np.zeros(capacity, dtype=np.int32)
        self._seq = np.zeros(capacity, dtype=np.int32)
        self._count = np.ones(capacity, dtype=np.int32)
        self._output = np.zeros(capacity, dtype=np.int8)
        # seq_id[i] points at _seq[i], so that writing _seq is enough
        self._seq_at = self._seq.ctypes.data + np.arange(capacity, dtype=np.uintp) * self._seq.itemsize
        self.struct = lib.llama_batch(
            0,
            self._token.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            None,
            self._pos.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            self._count.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            self._seq_at.ctypes.data_as(ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
            self._output.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def fill(self, plan: Plan) -> int:
        """Write the plan's tokens; returns how many of them have an output."""
        decode = plan.decode
        if plan.prefill:
            return self._fill_mixed(plan)
        if plan.drafted:
            return self._fill_drafted(decode)
        at = self.struct.n_tokens = len(decode)
        self._token[:at] = [seq.tokens[-1] for seq in decode]
        self._pos[:at] = [seq.n_past for seq in decode]
        self._seq[:at] = [seq.slot for seq in decode]
        self._output[:at] = 1
        return at

    def _fill_mixed(self, plan: Plan) -> int:
        at = rows = 0
        for seq, count in plan.parts():
            past, end = seq.n_past, at + count
            self._token[at:end] = seq.tokens[past : past + count]
            self._pos[at:end] = np.arange(past, past + count, dtype=np.int32)
            self._seq[at:end] = seq.slot
            self._output[at:end] = 0
            if seq.prompt_scores is not None:
                rows += self._ask(at - past, seq.prompt_rows(count))
            if count == seq.pending:
                self._output[end - 1] = 1
                rows += 1
            at = end
        self.struct.n_tokens = at
        return rows

    def _ask(self, shift: int, positions: range) -> int:
        """Outputs for a prompt's positions; `shift`: where in the batch its position 0 would be."""
        if positions:
            self._output[shift + positions.start : shift + positions.stop] = 1
        return len(positions)

    def _fill_drafted(self, decode: list[Sequence]) -> int:
        at = 0
        for seq in decode:
            tokens = [seq.tokens[-1], *seq.draft]
            end = at + len(tokens)
            self._token[at:end] = tokens
            self._pos[at:end] = np.arange(seq.n_past, seq.n_past + len(tokens), dtype=np.int32)
            self._seq[at:end] = seq.slot
            at = end
        self._output[:at] = 1
        self.struct.n_tokens = at
        return at

    def fill_one(self, token: int) -> None:
        self._token[0], self._pos[0], self._seq[0], self._output[0] = token, 0, 0, 1
        self.struct.n_tokens = 1


def _new_context(model: LoadedModel, config: EngineConfig) -> Any:
    params = lib.llama_context_default_params()
    params.n_ctx = config.cells
    params.n_batch = config.n_batch
    params.n_ubatch = min(config.n_ubatch, config.n_batch)
    params.n_seq_max = config.slots
    params.n_outputs_max = config.outputs
    params.n_threads = config.threads
    params.n_threads_batch = config.threads_batch or config.threads
    params.flash_attn_type = _FLASH_ATTN[config.flash_attn]
    params.type_k = KV_TYPES[config.kv_type]
    params.type_v = KV_TYPES[config.values_type]
    params.kv_unified = config.unified
    params.no_perf = True
    with log.captured() as complaints:
        ctx = lib.llama_init_from_model(model.handle, params)
    if not ctx:
        raise load_error(model.path, complaints)
    return adapters.applied(ctx, model)
