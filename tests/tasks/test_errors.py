"""The error tree: one code, one status."""

from __future__ import annotations

import pytest

from tasks import errors
from tasks.errors import STATUS_BY_CODE, PendraError, status_of


def classes(root: type[PendraError]) -> list[type[PendraError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in classes(child))]


OURS = [cls for cls in classes(PendraError) if cls.__module__ == errors.__name__]


@pytest.mark.parametrize("cls", [cls for cls in OURS if cls is not errors.ConfigError])
def test_a_class_and_its_default_code_agree_on_the_status(cls):
    assert status_of(cls.default_code) == cls.status


def test_every_class_is_in_the_drawing():
    assert errors.__doc__ is not None
    for cls in OURS:
        assert cls.__name__ in errors.__doc__


def test_every_status_is_an_http_error():
    assert all(400 <= status <= 507 for status in STATUS_BY_CODE.values())


def test_an_unknown_code_is_a_workers_fault():
    assert status_of("never_heard_of") == 502


def test_an_error_carries_its_code_and_its_words():
    error = errors.BusyError("full", retry_after=2.5)
    assert (error.code, error.message, str(error), error.retry_after) == ("queue_full", "full", "full", 2.5)
    assert PendraError("x", code="special").code == "special"
