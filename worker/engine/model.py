"""A GGUF in memory: loaded, described, and freed by hand. Its weights may serve several contexts."""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from llama_cpp import llama_cpp as lib

from tasks.errors import JobCancelledError, WorkerError
from tasks.logs import event
from worker.engine import adapters, log
from worker.engine.adapters import Adapter
from worker.engine.config import KvType
from worker.engine.load_errors import check_file, load_error
from worker.engine.spread import Spread
from worker.engine.vocab import Vocab

_log = logging.getLogger("pendra.engine")
_backend_lock = threading.Lock()
_backend_ready = False

KV_TYPES: dict[KvType, int] = {
    KvType.F32: 0,
    KvType.F16: 1,
    KvType.BF16: 30,
    KvType.Q8_0: 8,
    KvType.Q5_1: 7,
    KvType.Q5_0: 6,
    KvType.Q4_1: 3,
    KvType.Q4_0: 2,
}
"""ggml's number of each type (ggml.h); the bindings do not name all."""


class LoadedModel:
    """Owns one llama_model.

    Loading blocks (seconds to minutes; do it off the event loop). `progress` is called on the loading thread with a
    fraction 0-1; returning False stops the load with JobCancelledError. `tensor_split`, `main_gpu`: see `Spread`.
    Raises WorkerError with code model_corrupt, unsupported_architecture, missing_split, out_of_memory, bad_adapter
    or model_load_failed. Reading methods are safe from any
    thread until `close`, which must come after the engines that use the model are closed.
    """

    def __init__(
        self,
        path: Path,
        *,
        n_gpu_layers: int = -1,
        tensor_split: Sequence[float] = (),
        main_gpu: int | None = None,
        mmap: bool = True,
        lora: Sequence[Adapter] = (),
        progress: Callable[[float], bool | None] | None = None,
    ) -> None:
        self.path = path
        self._model: Any = None
        started = time.monotonic()
        spread = Spread(n_gpu_layers, tuple(tensor_split), main_gpu)
        self._model = _load(path, spread, mmap=mmap, progress=progress)
        try:
            self.adapters = adapters.load(self._model, lora)
            """llama.cpp's handles and scales; every context of the model applies them, and they go with it."""
        except BaseException:
            self.close()
            raise
        self.vocab = Vocab(self._model)
        self.metadata = _metadata(self._model)
        self.n_vocab = self.vocab.size
        self.n_ctx_train: int = lib.llama_model_n_ctx_train(self._model)
        self.n_embd: int = lib.llama_model_n_embd(self._model)
        self.n_layer: int = lib.llama_model_n_layer(self._model)
        self.size_bytes: int = lib.llama_model_size(self._model)
        self.n_params: int = lib.llama_model_n_params(self._model)
        self.can_rewind = not (lib.llama_model_is_recurrent(self._model) or lib.llama_model_is_hybrid(self._model))
        """Whether its memory can drop its last tokens; recurrent models only forget everything."""
        ms = round((time.monotonic() - started) * 1000)
        event(_log, logging.INFO, "engine.model_loaded", file=path.name, ms=ms, size_bytes=self.size_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Free the weights. Idempotent."""
        model, self._model = self._model, None
        if model is not None:
            lib.llama_model_free(model)

    @property
    def handle(self) -> Any:
        """The llama_model pointer. Raises WorkerError once closed."""
        if self._model is None:
            raise WorkerError(f"the model {self.path.name} is unloaded already")
        return self._model

    @property
    def eog(self) -> frozenset[int]:
        """Tokens that end a reply."""
        return self.vocab.eog

    @property
    def bos_text(self) -> str:
        return self.vocab.text_of(self.vocab.bos)

    @property
    def eos_text(self) -> str:
        return self.vocab.text_of(self.vocab.eos)

    @property
    def chat_template(self) -> str | None:
        """The jinja template in the file (`tokenizer.chat_template`), if there is one."""
        return self.metadata.get("tokenizer.chat_template")

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """See `Vocab.tokenize`."""
        _ = self.handle
        return self.vocab.tokenize(text, add_special=add_special, parse_special=parse_special)

    def piece(self, token: int) -> bytes:
        """See `Vocab.piece`."""
        return self.vocab.piece(token)

    def kv_bytes_per_token(self, kv_type: KvType = KvType.F16) -> int:
        """An estimate (attention in every layer, the same heads in each), to size slots before there is a context."""
        arch = self.metadata.get("general.architecture", "")
        heads: int = lib.llama_model_n_head_kv(self.handle)
        width = self.n_embd // max(1, lib.llama_model_n_head(self.handle))
        k_width = int(self.metadata.get(f"{arch}.attention.key_length", width))
        v_width = int(self.metadata.get(f"{arch}.attention.value_length", width))
        return int(self.n_layer * heads * (k_width + v_width) * kv_type.bytes_per_value)


def _load(path: Path, spread: Spread, *, mmap: bool, progress: Callable[[float], bool | None] | None) -> Any:
    check_file(path)
    init_backend()
    stopped = False

    def on_progress(fraction: float, _user_data: Any) -> bool:
        nonlocal stopped
        stopped = progress is not None and progress(fraction) is False
        return not stopped

    params = lib.llama_model_default_params()
    kept = spread.fill(params)
    params.load_mode = lib.LLAMA_LOAD_MODE_AUTO if mmap else lib.LLAMA_LOAD_MODE_NONE
    callback = lib.llama_progress_callback(on_progress)
    params.progress_callback = callback  # kept alive by this frame for as long as llama.cpp may call it
    with log.captured() as complaints:
        model = lib.llama_model_load_from_file(str(path).encode(), params)
    del kept  # llama.cpp reads it while it loads
    if stopped:
        if model:
            lib.llama_model_free(model)
        raise JobCancelledError(f"loading {path.name} was stopped")
    if not model:
        raise load_error(path, complaints)
    return model


def init_backend() -> None:
    """Prepare llama.cpp for this process, once. Any thread."""
    global _backend_ready  # noqa: PLW0603  # llama.cpp has one backend registry per process
    with _backend_lock:
        if not _backend_ready:
            log.install()
            lib.llama_backend_init()
            _backend_ready = True


def _metadata(model: Any) -> dict[str, str]:
    count = lib.llama_model_meta_count(model)
    return {
        _text(lib.llama_model_meta_key_by_index, model, i): _text(lib.llama_model_meta_val_str_by_index, model, i)
        for i in range(count)
    }


def _text(read: Any, model: Any, index: int) -> str:
    room = 256
    while True:
        buffer = ctypes.create_string_buffer(room)
        needed: int = read(model, index, buffer, room)
        if needed < room:
            return buffer.value.decode("utf-8", "replace")
        room = needed + 1
