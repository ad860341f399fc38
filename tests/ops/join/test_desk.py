"""Who is handed the keys."""

from __future__ import annotations

from ops.join.desk import MOST_REFUSALS, REFUSALS_WITHIN_S, Desk, Verdict
from ops.join.grant import Ask
from ops.join.sealing import proof
from ops.join.token import Token

SECRET = b"s" * 32
NOW = 1000.0
TOKEN = Token("h", 1, int(NOW) + 60, b"f" * 32, SECRET)


def ask(node: str = "wrk-b", secret: bytes = SECRET, nonce: str = "0" * 32) -> Ask:
    return Ask(node=node, nonce=nonce, proof=proof(secret, node, nonce))


def test_the_host_with_the_token_gets_the_keys_once_and_again_after_a_broken_line() -> None:
    desk = Desk(TOKEN)
    assert desk.decide(ask(), "a", NOW) is Verdict.GRANTED
    assert desk.done
    assert desk.decide(ask(nonce="1" * 32), "a", NOW) is Verdict.GRANTED
    assert list(desk.joined) == ["wrk-b"]


def test_another_host_does_not_get_a_used_token() -> None:
    desk = Desk(TOKEN)
    desk.decide(ask(), "a", NOW)
    assert desk.decide(ask("wrk-c"), "b", NOW) is Verdict.USED


def test_a_token_for_two_hosts() -> None:
    desk = Desk(TOKEN, hosts=2)
    desk.decide(ask(), "a", NOW)
    assert not desk.done
    assert desk.decide(ask("wrk-c"), "b", NOW) is Verdict.GRANTED
    assert desk.done


def test_an_expired_token() -> None:
    assert Desk(TOKEN).decide(ask(), "a", NOW + 60) is Verdict.EXPIRED


def test_a_wrong_secret_and_a_proof_of_another_host_are_refused() -> None:
    desk = Desk(TOKEN)
    stolen = ask().model_copy(update={"node": "wrk-evil"})
    assert desk.decide(ask(secret=b"x" * 32), "a", NOW) is Verdict.REFUSED
    assert desk.decide(stolen, "a", NOW) is Verdict.REFUSED
    assert desk.decide(None, "a", NOW) is Verdict.REFUSED
    assert not desk.joined


def test_who_guesses_waits_and_nobody_else_does() -> None:
    desk = Desk(TOKEN)
    for _ in range(MOST_REFUSALS):
        desk.decide(None, "a", NOW)
    assert desk.decide(ask(), "a", NOW) is Verdict.RATE_LIMITED
    assert desk.decide(ask("wrk-c"), "b", NOW) is Verdict.GRANTED
    assert desk.admits("a", NOW + REFUSALS_WITHIN_S + 1)


def test_many_addresses_do_not_fill_the_memory() -> None:
    desk = Desk(TOKEN)
    for number in range(3000):
        desk.decide(None, str(number), NOW)
    assert len(desk._refused) <= 1000
