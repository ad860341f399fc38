"""What a key may do."""

from __future__ import annotations

import pytest

from ops.controlplane.rates import Rates
from ops.controlplane.scope import Scope, expiry, new_key_of
from tasks.errors import BadRequestError

NOW = 1_790_000_000.0  # 2026-09-21


def test_models_are_ids_or_patterns() -> None:
    scope = Scope(models=("smollm2:135m", "qwen3:*"))
    assert scope.covers("smollm2:135m")
    assert scope.covers("qwen3:8b")
    assert not scope.covers("Qwen3:8b")
    assert not scope.covers("smollm2:360m")
    assert Scope().covers("anything")


def test_expiry() -> None:
    assert Scope(expires=NOW).expired(NOW)
    assert not Scope(expires=NOW + 1).expired(NOW)
    assert not Scope().expired(NOW)
    assert expiry("90d", NOW) == NOW + 90 * 86_400
    assert expiry("2w", NOW) == NOW + 14 * 86_400
    assert expiry("2027-01-31", NOW) == 1_801_353_600.0
    assert expiry("2027-01-31T00:00:00+01:00", NOW) == 1_801_350_000.0


@pytest.mark.parametrize("text", ["", "soon", "0d", "-3d", "2020-01-01", "d"])
def test_what_is_no_expiry(text: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        expiry(text, NOW)
    assert caught.value.param == "expires"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "n", "rate": 0}, "rate"),
        ({"name": "n", "rate": float("inf")}, "rate"),
        ({"name": "n", "models": "x"}, "models"),
        ({"name": "n", "models": [3]}, "models.0"),
        ({"name": "n", "admin": "pelican"}, "admin"),
        ({"name": "n", "scopes": []}, "scopes"),
    ],
)
def test_a_bad_wish_names_the_field_and_quotes_nothing(body: dict[str, object], param: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        new_key_of(body)
    assert caught.value.param == param
    assert "pelican" not in caught.value.message


def test_a_rate_is_kept() -> None:
    rates = Rates()
    assert [rates.take("k", 60, 0.0) for _ in range(10)] == [0.0] * 10  # saved up: ten seconds' worth
    assert rates.take("k", 60, 0.0) == 1.0
    assert rates.take("other", 60, 0.0) == 0.0
    assert rates.take("k", 60, 1.0) == 0.0
    assert rates.take("k", 60, 1.0) > 0


def test_a_slow_rate_lets_one_go() -> None:
    rates = Rates()
    assert rates.take("k", 1, 0.0) == 0.0
    assert rates.take("k", 1, 0.0) == 60.0


def test_labels_of_workers_are_checked_and_small() -> None:
    wanted = new_key_of({"name": "clinic", "only_on": ["PHI", "on-prem", "phi"], "rate": 5.0})
    assert wanted.scope.only_on == ("phi", "on-prem")
    assert wanted.scope.rate == 5.0
    with pytest.raises(BadRequestError) as refused:
        new_key_of({"name": "clinic", "only_on": ["on prem"]})
    assert refused.value.param == "only_on"
