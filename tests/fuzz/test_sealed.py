"""Sealed requests that were changed: at the API's door, in a worker, and the frames of replies in the client."""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag

from ops.controlplane.requests import parse_ask
from tasks.contract import JobKind
from tasks.errors import BadRequestError, PrivateReplyError, UnavailableError
from tasks.private import ENVELOPE, parse_envelope
from tests.fuzz.cases import Fuzzer, refused_well
from tests.fuzz.mutation import as_bytes, damaged, mutated
from tests.worker.private.sealed_by import MODEL, keyring, seal
from worker.private.envelope import open_envelope
from worker.private.frames import Delivered, Frames, Steps
from worker.private.keys import WorkloadKey

SECRET = "quartzplume"
KEY, OTHER = WorkloadKey.generate(), WorkloadKey.generate()
BODY = {"messages": [{"role": "user", "content": SECRET}], "pendra_stream_terminator": 1}
PLAIN, _ = seal(BODY, KEY, OTHER)
WITH_SOUND, _ = seal(BODY, KEY, task_type="transcription", binary=SECRET.encode())
KINDS = {"chat": PLAIN, "transcription": WITH_SOUND}
BASE64 = ("nonce", "ciphertext", "binary_nonce", "binary_ciphertext", "enc", "sealed_dek")
REFUSALS = ("bad_envelope", "envelope_not_opened", "no_private_inference_worker")


def changed(envelope: dict[str, Any], rng: Random) -> Any:
    """Changed as JSON, or in the bytes of one of its fields."""
    if rng.random() < 0.5:
        return mutated(envelope, rng)
    made = json.loads(json.dumps(envelope))
    holder = made if rng.random() < 0.5 else rng.choice(made["recipients"])
    name = rng.choice([name for name in BASE64 if name in holder])
    holder[name] = base64.b64encode(damaged(base64.b64decode(holder[name]), rng)).decode()
    return made


def test_envelopes_at_the_apis_door(fuzzer: Fuzzer) -> None:
    seen: Counter[str] = Counter()

    def case(rng: Random) -> None:
        kind = rng.choice(list(KINDS))
        body = {"model": MODEL, "stream": False, ENVELOPE: changed(KINDS[kind], rng)}
        raw = as_bytes(mutated(body, rng) if rng.random() < 0.3 else body, rng)
        try:
            ask = parse_ask(rng.choice((JobKind(kind), *JobKind)), raw, {}, secret="s")
        except BadRequestError as exc:
            seen[exc.code] += 1
            refused_well(exc, exc.code, SECRET)
        else:
            seen["sealed" if ask.sealed else "plain"] += 1

    fuzzer.run(case, sample=800, all_of_them=20_000)
    assert all(seen[kind] > 10 for kind in ("sealed", "bad_envelope", "invalid_json")), seen


def test_envelopes_in_a_worker(fuzzer: Fuzzer, tmp_path: Path) -> None:
    """What opens is what was sealed; anything else is refused in one of three ways."""
    ring = keyring(tmp_path, KEY)
    seen: Counter[str] = Counter()

    def case(rng: Random) -> None:
        kind = rng.choice(list(KINDS))
        asked = {"model": rng.choice((MODEL, MODEL, "x")), "stream": rng.random() < 0.1, "task_type": kind}
        try:
            opened = open_envelope(parse_envelope(changed(KINDS[kind], rng)), ring, **asked)
        except (BadRequestError, UnavailableError) as exc:
            seen[exc.code] += 1
            refused_well(exc, exc.code, SECRET)
        else:
            seen["opened"] += 1
            assert (opened.body, asked["model"], asked["stream"]) == (BODY, MODEL, False)
            assert opened.binary in (None, SECRET.encode())

    fuzzer.run(case, sample=500, all_of_them=10_000)
    assert set(seen) == {"opened", *REFUSALS}, seen


FRAME_COUNT = 6


def a_reply() -> tuple[list[dict[str, Any]], Any, list[bytes], Steps]:
    """Sealed frames, the official client's decryptor for them, and what a failover would go on with."""
    _, decryptor = seal(BODY, KEY, stream=True)
    steps = Steps(bytes(32), "j")
    frames = Frames(KEY.kid, decryptor._keys[KEY.kid], steps, Delivered())
    sealed = [frames.seal(f"{SECRET}-{number}", (number,)) for number in range(FRAME_COUNT)]
    return (
        [json.loads(one.data)["pendra_encrypted"] for one in sealed],
        decryptor,
        [one.step for one in sealed],
        steps,
    )


def disordered(items: list[Any], rng: Random) -> list[Any]:
    made = list(items)
    for _ in range(rng.randrange(1, 3)):
        at, other = rng.randrange(len(made)), rng.randrange(len(made))
        way = rng.randrange(3)
        if way == 0 and len(made) > 1:
            del made[at]
        elif way == 1:
            made.insert(at, made[other])
        else:
            made[at], made[other] = made[other], made[at]
    return made


def test_frames_in_the_official_client(fuzzer: Fuzzer) -> None:
    """However they are changed, it takes the texts in order from the first on, or none."""
    seen: Counter[str] = Counter()

    def case(rng: Random) -> None:
        frames, decryptor, _, _ = a_reply()
        frames = disordered(frames, rng) if rng.random() < 0.5 else frames
        if rng.random() < 0.7:
            frames[rng.randrange(len(frames))] = changed_frame(rng.choice(frames), rng)
        for number, frame in enumerate(frames):
            try:
                said = decryptor.open_chunk(frame)
            except (InvalidTag, ValueError, TypeError, KeyError, AttributeError, OverflowError):
                seen["refused"] += 1
                return
            assert said == f"{SECRET}-{number}".encode()
        seen["taken"] += 1

    fuzzer.run(case, sample=200, all_of_them=5_000)
    assert all(seen[kind] > 5 for kind in ("refused", "taken")), seen


def changed_frame(frame: dict[str, Any], rng: Random) -> Any:
    if rng.random() < 0.4:
        return mutated(frame, rng)
    raw = damaged(base64.b64decode(frame["ciphertext"]), rng)
    return {**frame, "ciphertext": base64.b64encode(raw).decode()}


def test_steps_of_a_failover(fuzzer: Fuzzer) -> None:
    """What another attempt goes on with are the tokens from the first on, or it does not."""
    _, _, good, steps = a_reply()

    def case(rng: Random) -> None:
        given = disordered(good, rng)
        if rng.random() < 0.5:
            at = rng.randrange(len(given))
            given[at] = damaged(given[at], rng)
        try:
            delivered = steps.replay(given)
        except PrivateReplyError as exc:
            refused_well(exc, exc.code, SECRET)
        else:
            assert delivered.tokens == tuple(range(delivered.frames))

    fuzzer.run(case, sample=500, all_of_them=10_000)


@pytest.mark.parametrize("way", ["deleted", "doubled", "swapped"])
def test_the_disorder_is_noticed(way: str) -> None:
    """That the fuzzer's judgement can fail: these three, by hand."""
    frames, decryptor, _, _ = a_reply()
    wrong = {"deleted": frames[1:], "doubled": [frames[0], *frames], "swapped": [frames[1], frames[0]]}[way]
    with pytest.raises((InvalidTag, ValueError)):
        [decryptor.open_chunk(frame) for frame in wrong]
