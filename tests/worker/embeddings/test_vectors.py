"""Vectors: cut, scaled, and written so that a client reads the same float32 back."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from worker.embeddings.vectors import as_base64, as_json, normalised

ROWS = np.array([[3, 4, 12], [0, 0, 0]], dtype=np.float32)
FLOATS = arrays(np.float32, st.integers(1, 8), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        (2, [3 / 13, 4 / 13, 12 / 13]),
        (1, [3 / 19, 4 / 19, 12 / 19]),
        (0, [8190, 10920, 32760]),
        (-1, [3, 4, 12]),
        (3, [3 / 12.2066, 4 / 12.2066, 12 / 12.2066]),
    ],
)
def test_norms(norm, expected):
    got = normalised(ROWS, norm)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [expected, [0, 0, 0]], rtol=1e-4)


def test_cut_and_scaled_again():
    np.testing.assert_allclose(normalised(ROWS, dimensions=2), [[0.6, 0.8], [0, 0]], rtol=1e-6)
    np.testing.assert_array_equal(normalised(ROWS, dimensions=3), normalised(ROWS))


@given(FLOATS)
def test_json_brings_back_the_same_numbers(row):
    np.testing.assert_array_equal(np.array(json.loads(as_json(row)), dtype=np.float32), row)


@given(FLOATS)
def test_base64_is_little_endian_float32(row):
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(json.loads(as_base64(row))), dtype="<f4"), row)
