"""Frames that the official SDK opens, and what another worker makes of the steps beside them."""

from __future__ import annotations

import json

import pytest
from pendra import _private_inference as client

from tasks.errors import PrivateReplyError
from worker.private.frames import SNAPSHOT_EVERY, Delivered, Frames, Steps, frame_nonce

KEY, RESUME = bytes(range(32)), bytes(32)
STEPS = Steps(RESUME, "j")


def frames(delivered: Delivered = Delivered()) -> Frames:  # noqa: B008  # frozen
    return Frames("k", KEY, STEPS, delivered)


def decryptor() -> client.ResponseDecryptor:
    return client.ResponseDecryptor({"k": KEY})


def opened(decryptor: client.ResponseDecryptor, text: str) -> str:
    return decryptor.open_chunk(json.loads(text)["pendra_encrypted"]).decode()


def test_the_sdk_opens_them_in_order():
    made, reader = frames(), decryptor()
    texts = ["{}", "größer", ""]
    sealed = [made.seal(text) for text in texts]
    assert [opened(reader, one.data) for one in sealed] == texts
    assert ["kid" in one.data for one in sealed] == [True, False, False]


def test_the_nonce_is_the_sdks():
    assert [frame_nonce(n) for n in (0, 1, 2**40)] == [client.seq_nonce(n) for n in (0, 1, 2**40)]


def test_text_that_is_no_utf8_uses_no_seq_up():
    made, reader = frames(), decryptor()
    with pytest.raises(UnicodeEncodeError):
        made.seal("\ud800")
    assert opened(reader, made.seal("next").data) == "next"


def test_another_worker_goes_on_with_the_next_seq_and_the_same_key():
    first, reader = frames(), decryptor()
    steps = []
    for n in range(5):
        sealed = first.seal(f"a{n}", (n, n + 100), control=n == 0)
        steps.append(sealed.step)
        opened(reader, sealed.data)
    delivered = STEPS.replay(steps)
    assert delivered == Delivered(5, begun=True, tokens=(0, 100, 1, 101, 2, 102, 3, 103, 4, 104))
    assert opened(reader, frames(delivered).seal("b").data) == "b"


def test_a_mark_alone_is_no_beginning_of_the_text():
    assert STEPS.replay([frames().seal("declared", control=True).step]) == Delivered(1, begun=False)


def test_a_long_reply_needs_only_the_steps_since_the_last_whole_one():
    made, kept = frames(), []
    for n in range(2 * SNAPSHOT_EVERY + 3):
        sealed = made.seal("x", (n,))
        kept = [sealed.step] if sealed.whole else [*kept, sealed.step]
    assert len(kept) == 3
    assert STEPS.replay(kept) == Delivered(515, begun=True, tokens=tuple(range(515)))


def test_unknown_tokens_are_said_to_be():
    assert frames().seal("x", None).continuable is False


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_steps_with_a_hole_are_refused(lost):
    made = frames()
    steps = [made.seal("x", (n,)).step for n in range(4)]
    del steps[lost]
    with pytest.raises(PrivateReplyError) as caught:
        STEPS.replay(steps)
    assert caught.value.code == "private_reply_lost"


def test_steps_that_were_turned_round_changed_or_are_another_jobs_are_refused():
    made = frames()
    a, b = made.seal("x", (1,)).step, made.seal("x", (2,)).step
    for steps in ([b, a], [a, a], [a[:-1] + bytes([a[-1] ^ 1])], [b""]):
        with pytest.raises(PrivateReplyError):
            STEPS.replay(steps)
    with pytest.raises(PrivateReplyError):
        Steps(RESUME, "other").replay([a])


def test_nothing_of_it_is_readable():
    sealed = frames().seal("the-patient", (77, 78))
    assert "the-patient" not in sealed.data + repr(sealed)
    assert frames().seal("x", (1,)).step != frames().seal("x", (1,)).step  # a random nonce
