"""The loop that processes run on."""

from __future__ import annotations

import asyncio
import importlib
import sys

import pytest

from tasks import event_loop


async def loop_module() -> str:
    return type(asyncio.get_running_loop()).__module__


def test_uvloop_is_used() -> None:
    assert event_loop.run(loop_module()).startswith("uvloop")


def test_without_uvloop_it_is_asyncios_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    try:
        assert importlib.reload(event_loop).run(loop_module()).startswith("asyncio")
    finally:
        monkeypatch.undo()
        importlib.reload(event_loop)


def test_an_error_comes_out_as_it_is() -> None:
    async def fails() -> None:
        raise ValueError("so")

    with pytest.raises(ValueError, match="so"):
        event_loop.run(fails())
