from __future__ import annotations

import dataclasses

import pytest

from tasks.errors import BadRequestError
from worker.engine.api import SamplingParams
from worker.engine.limits import LIMITS, check_params

N_VOCAB = 374


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": float("inf")}, "top_p"),
        ({"repeat_penalty": 0.0}, "repeat_penalty"),
        ({"logit_bias": ((374, 1.0),)}, "logit_bias"),
        ({"logit_bias": ((-1, 1.0),)}, "logit_bias"),
        ({"logit_bias": ((1, float("nan")),)}, "logit_bias"),
        ({"typical_p": 0.0}, "typical_p"),
        ({"xtc_probability": 1.5}, "xtc_probability"),
        ({"mirostat": 3}, "mirostat"),
        ({"dry_base": 0.5}, "dry_base"),
        ({"dry_penalty_last_n": -2}, "dry_penalty_last_n"),
        ({"dry_sequence_breakers": ("",)}, "dry_sequence_breakers"),
        ({"dry_sequence_breakers": ("x" * 41,)}, "dry_sequence_breakers"),
        ({"dry_sequence_breakers": ("a\0b",)}, "dry_sequence_breakers"),
        ({"dry_sequence_breakers": ("x",) * 65}, "dry_sequence_breakers"),
    ],
)
def test_values_no_sampler_can_work_with(fields: dict[str, object], param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        check_params(SamplingParams(**fields), N_VOCAB)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"typical_p": 2}, "typical_p must be a number above 0, at most 1"),
        ({"xtc_threshold": -1}, "xtc_threshold must be a number from 0 to 1"),
        ({"repeat_penalty": -1}, "repeat_penalty must be a finite number above 0"),
        ({"min_p": float("nan")}, "min_p must be a finite number"),
        ({"dry_allowed_length": -1}, "dry_allowed_length must be a finite number, 0 or more"),
    ],
)
def test_an_error_says_what_is_allowed(fields: dict[str, object], words: str) -> None:
    with pytest.raises(BadRequestError, match=words):
        check_params(SamplingParams(**fields), N_VOCAB)


def test_the_defaults_are_good_and_every_limit_names_a_field() -> None:
    check_params(SamplingParams(), N_VOCAB)
    assert set(LIMITS) <= {field.name for field in dataclasses.fields(SamplingParams)}
