"""What is done to a model's vectors before they are sent: cut, scaled, written. Pure."""

from __future__ import annotations

import base64

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_NONE, _LARGEST = -1, 0
_INT16 = 32760


def normalised(vectors: Floats, norm: int = 2, dimensions: int | None = None) -> Floats:
    """Rows cut to their first `dimensions` numbers, then scaled so that their p-norm is 1.

    `norm` as llama-server's `embd_normalize`: 2 Euclidean (what OpenAI and sentence-transformers give), 1 and higher
    that p-norm, 0 largest absolute value 32760, -1 not at all. A row of zeros stays one.
    """
    cut = vectors[:, :dimensions].astype(np.float64)
    if norm == _NONE:
        return cut.astype(np.float32)
    if norm == _LARGEST:
        sizes = np.abs(cut).max(axis=1, keepdims=True) / _INT16
    else:
        sizes = np.linalg.norm(cut, ord=norm, axis=1, keepdims=True)
    scaled: Floats = np.divide(cut, sizes, out=np.zeros_like(cut), where=sizes > 0).astype(np.float32)
    return scaled


def as_json(row: Floats) -> str:
    """A JSON array; nine digits bring back the same float32."""
    return "[" + ("%.9g," * len(row))[:-1] % tuple(row.tolist()) + "]"


def as_base64(row: Floats) -> str:
    """A JSON text: base64 of little-endian float32, which OpenAI's own client asks for."""
    return f'"{base64.b64encode(row.astype("<f4").tobytes()).decode()}"'
