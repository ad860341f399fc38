"""`python -m worker.builds_probe`: ggml's devices as JSON on standard output. Loads the GPU libraries and ends."""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any


def registered(library: Any) -> list[dict[str, Any]]:
    """One row a device, through the C API of `ggml-backend.h`. Raises AttributeError where it is not exported."""
    for name in ("ggml_backend_dev_get", "ggml_backend_dev_backend_reg"):
        getattr(library, name).restype = ctypes.c_void_p
    for name in ("ggml_backend_dev_name", "ggml_backend_dev_description", "ggml_backend_reg_name"):
        getattr(library, name).restype = ctypes.c_char_p
    library.ggml_backend_dev_count.restype = ctypes.c_size_t
    library.ggml_backend_dev_memory.restype = None
    return [_row(library, ctypes.c_void_p(library.ggml_backend_dev_get(ctypes.c_size_t(at)))) for at in range(
        library.ggml_backend_dev_count()
    )]  # fmt: skip


def _row(library: Any, device: ctypes.c_void_p) -> dict[str, Any]:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    library.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
    registry = ctypes.c_void_p(library.ggml_backend_dev_backend_reg(device))
    return {
        "registry": library.ggml_backend_reg_name(registry).decode(),
        "name": library.ggml_backend_dev_name(device).decode(),
        "about": library.ggml_backend_dev_description(device).decode(),
        "free": free.value,
        "total": total.value,
    }


def main() -> int:
    from llama_cpp import llama_cpp  # noqa: PLC0415  # loads every GPU library

    library: Any = llama_cpp._lib  # noqa: SLF001  # the binding wraps llama.h only; ggml comes with the same library
    sys.stdout.write(json.dumps(registered(library)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
