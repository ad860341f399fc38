"""The llama.cpp calls of the hot path, bound once.

Two kinds: calls that take long give up the GIL (`llama_decode`, waiting for logits); the others are done in
microseconds and keep it, because getting it back from a busy thread can cost the whole switch interval (5 ms).
"""

from __future__ import annotations

import ctypes
from typing import Any

from llama_cpp import llama_cpp as lib

_P = ctypes.c_void_p
_I = ctypes.c_int32


def _quick(name: str, restype: Any, *argtypes: Any) -> Any:
    """A binding that keeps the GIL."""
    return ctypes.PYFUNCTYPE(restype, *argtypes)((name, lib._lib))  # noqa: SLF001  # the handle has no public name


def _slow(name: str, restype: Any, *argtypes: Any) -> Any:
    """A binding that gives up the GIL while it runs."""
    return ctypes.CFUNCTYPE(restype, *argtypes)((name, lib._lib))  # noqa: SLF001  # as above


decode = _slow("llama_decode", _I, _P, lib.llama_batch)
get_logits = _slow("llama_get_logits", _P, _P)
"""Address of the logits of the last decode, one row an output in batch order; waits until they are there."""

memory_clear = _quick("llama_memory_clear", None, _P, ctypes.c_bool)
memory_seq_rm = _quick("llama_memory_seq_rm", ctypes.c_bool, _P, _I, _I, _I)
memory_seq_cp = _quick("llama_memory_seq_cp", None, _P, _I, _I, _I, _I)

sampler_apply = _quick("llama_sampler_apply", None, _P, ctypes.POINTER(lib.llama_token_data_array))
sampler_accept = _quick("llama_sampler_accept", None, _P, _I)
sampler_sample = _quick("llama_sampler_sample", _I, _P, _P, _I)
sampler_free = _quick("llama_sampler_free", None, _P)


def rest() -> None:
    """Let go of the calling thread's OpenMP workers; its next decode starts them anew (about 0.1 ms).

    Each thread that computes has workers of its own, and libgomp counts them all: once there are more of them than
    CPUs, they no longer spin between two operations but sleep, and a decode takes half as long again. So models that
    are idle must not keep theirs, and the thread that loads a model must not compute.
    """
    if _pause is not None:
        _pause(_PAUSE_SOFT)


_PAUSE_SOFT = 1  # omp_pause_soft
_pause = getattr(lib._lib, "omp_pause_resource_all", None)  # noqa: SLF001  # as above; none in builds without OpenMP
