from __future__ import annotations

import ssl

import pytest

from bridge.backoff import Backoff, Fatal, Retry, verdict
from bridge.protocol import CloseCode
from tasks.errors import BadRequestError, ConfigError

FATAL = {
    CloseCode.UNKNOWN_KEY,
    CloseCode.BAD_SIGNATURE,
    CloseCode.REVOKED,
    CloseCode.OLD_PROTOCOL,
    CloseCode.CLOCK_SKEW,
    CloseCode.REPLACED,
}


@pytest.mark.parametrize("code", list(CloseCode))
def test_only_what_a_person_must_put_right_is_fatal(code: CloseCode) -> None:
    assert isinstance(verdict(code), Fatal if code in FATAL else Retry)


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1011, 1012])
def test_ordinary_close_codes_are_retried(code: int) -> None:
    assert isinstance(verdict(code), Retry)


@pytest.mark.parametrize("error", [OSError("refused"), TimeoutError(), ssl.SSLError("x"), BadRequestError("bad")])
def test_failures_of_the_network_are_retried(error: Exception) -> None:
    assert isinstance(verdict(error), Retry)


def test_a_wrong_setting_is_fatal() -> None:
    assert verdict(ConfigError("bad URL")) == Fatal("bad URL")


def test_fatal_words_say_what_to_do_and_what_the_api_said() -> None:
    words = verdict(CloseCode.CLOCK_SKEW, "off by 400 s").words
    assert "NTP" in words
    assert "off by 400 s" in words


def test_delays_grow_to_the_cap_with_full_jitter() -> None:
    ceilings: list[float] = []

    def draw(low: float, high: float) -> float:
        assert low == 0
        ceilings.append(high)
        return high

    backoff = Backoff(base=1, cap=10, draw=draw)
    assert [backoff.next_delay() for _ in range(6)] == [1, 2, 4, 8, 10, 10]


def test_a_stable_link_starts_the_series_anew() -> None:
    backoff = Backoff(base=1, cap=10, draw=lambda _, high: high)
    for _ in range(3):
        backoff.next_delay()
    backoff.link_lasted(1.0)
    assert backoff.next_delay() == 8
    backoff.link_lasted(60.0)
    assert backoff.next_delay() == 1


def test_a_clock_that_jumps_is_waited_for_and_one_that_was_never_right_is_not() -> None:
    assert isinstance(verdict(CloseCode.CLOCK_SKEW), Fatal)
    assert isinstance(verdict(CloseCode.CLOCK_SKEW, linked_before=True), Retry)
    assert isinstance(verdict(CloseCode.REVOKED, linked_before=True), Fatal)
