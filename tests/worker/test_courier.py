"""The courier: which batches are out after a round trip that went wrong somewhere, and when the next is due."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from tasks.scripts import Guard, Published
from worker.courier import Courier
from worker.outbox import Batch

GUARD = Guard("j", 0, "r", 0, 1)


class Pipe:
    """Takes any command; its results are those of the test."""

    def __init__(self, results: list[Any]) -> None:
        self.results = results
        self.commands: list[str] = []

    def __len__(self) -> int:
        return len(self.commands)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_args, **_options: self.commands.append(name)

    def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        outcome = self.results.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return [outcome.get(index, 1) for index in range(len(self.commands))]


class Client(redis.Redis):
    """Results by the command's place, a dict each round trip; 1 where nothing is said."""

    def __init__(self, *results: Any) -> None:
        super().__init__()
        self.results = list(results)

    def pipeline(self, *_args: Any, **_options: Any) -> Any:
        return Pipe(self.results)


@pytest.fixture
def settled() -> list[str]:
    return []


def courier(settled: list[str], *results: Any, names: str = "abc", **fields: Any) -> Courier:
    """With a batch for each name; `settled` gets those that are out. Their commands: XADD, PUBLISH, EXPIRE."""
    made = Courier(Client(*results), "w", 10**6)
    for name in names:
        made.put(Batch(name, b"x", settle=(lambda name=name: settled.append(name),), **fields))
    return made


def test_all_of_them_leave_in_one_round_trip(settled):
    made = courier(settled, {})
    assert made.pause(9) == 0
    made.flush()
    assert (settled, len(made), made.pause(9)) == (["a", "b", "c"], 0, 9)


@pytest.mark.parametrize(("failed", "out"), [(0, []), (1, []), (3, ["a"]), (5, ["a"]), (8, ["a", "b"])])
def test_from_the_first_command_that_failed_for_now_all_wait(settled, failed, out):
    made = courier(settled, {failed: redis.BusyLoadingError()})
    made.flush()
    assert settled == out
    assert 0 < made.pause(9) <= 0.05
    made.flush()  # too early: there is no second result
    assert len(made) == 3 - len(out)


def test_a_connection_that_broke_tells_nothing_so_all_wait(settled):
    made = courier(settled, ConnectionError())
    made.flush()
    assert (settled, len(made)) == ([], 3)


@pytest.mark.parametrize("results", [{4: redis.ResponseError()}, redis.ResponseError()])
def test_what_redis_refuses_for_good_holds_up_nobody(settled, results, caplog):
    made = courier(settled, results)
    made.flush()
    assert (settled, made.pause(9)) == (["a", "b", "c"], 9)
    assert "publisher.rejected" in caplog.text


@pytest.mark.parametrize(
    ("verdict", "told"),
    [(1, []), (0, []), (-1, [Published.FENCED]), (-2, [Published.OUT_OF_ORDER]), (redis.ResponseError(), [])],
)
def test_a_guard_that_refuses_is_told_to_the_private_reply(settled, verdict, told):
    refused: list[Published] = []
    made = courier(settled, {0: verdict}, names="a", guard=GUARD, refused=refused.append)
    made.flush()
    assert (settled, refused) == (["a"], told)


def test_what_was_sent_lately_is_sent_again_to_a_redis_that_lost_its_data(settled):
    made = courier(settled, {}, {})
    made.flush()
    made.rewind_next()
    made.flush()
    assert (settled, len(made), made._client.results) == (["a", "b", "c"], 0, [])


def test_what_is_given_up_is_settled(settled, caplog):
    made = courier(settled)
    made.give_up()
    assert (settled, len(made)) == (["a", "b", "c"], 0)
    assert "publisher.gave_up" in caplog.text
