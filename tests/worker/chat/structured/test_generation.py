"""Schema to grammar to text: whatever the tokens, a finished reply validates."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.worker.chat.structured.schemas import schemas
from tests.worker.chat.structured.toy_vocab import babble, toy_vocab
from worker.chat.structured.schema import compile_schema

VOCAB = toy_vocab()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schema=schemas(), seed=st.integers(0, 2**32 - 1))
def test_every_finished_output_validates(schema: dict[str, Any], seed: int) -> None:
    compiled = compile_schema(schema)
    assert compiled.not_enforced == ()
    text = babble(VOCAB.constraint(compiled.grammar()), np.random.default_rng(seed))
    if text is not None:
        jsonschema.validate(json.loads(text), schema)
