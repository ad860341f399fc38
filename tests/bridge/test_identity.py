from __future__ import annotations

import base64
import math
from typing import Any

import pytest

from bridge.identity import Identity, generate_nonce, generate_seed, refusal, sign_hello
from bridge.protocol import Challenge, CloseCode, Hello, signed_bytes
from tasks.errors import ConfigError

SEED = base64.b64encode(bytes(32)).decode()
ME = Identity.from_base64(SEED)
NONCE = generate_nonce()


def hello(now: float = 1000.0, **changes: Any) -> Hello:
    signed = sign_hello(Challenge(nonce=NONCE, time=now), ME, worker_id="w", name="n", version="1", now=now)
    return signed.model_copy(update=changes)


def signed_nan() -> Hello:
    """A hello whose signature holds and whose clock is no number; no decoder lets it through."""
    signature = ME.sign(signed_bytes(NONCE, "w", math.nan, 1))
    return hello(time=math.nan, signature=signature)


NAN = signed_nan()


def code(frame: Hello, **changes: Any) -> CloseCode | None:
    fields: dict[str, Any] = {"nonce": NONCE, "known": {ME.public_key}, "now": 1000.0} | changes
    found = refusal(frame, **fields)
    assert found is None or len(found.reason.encode()) <= 123, "a close frame holds 123 bytes of reason"
    return found.code if found else None


def test_a_good_hello_is_accepted() -> None:
    assert code(hello()) is None


@pytest.mark.parametrize(
    ("frame", "changes", "expected"),
    [
        (hello(protocol=0), {}, CloseCode.OLD_PROTOCOL),
        (hello(), {"known": set()}, CloseCode.UNKNOWN_KEY),
        (hello(), {"revoked": {ME.public_key}}, CloseCode.REVOKED),
        (hello(), {"nonce": generate_nonce()}, CloseCode.REPLAYED_NONCE),
        (hello(worker_id="other"), {}, CloseCode.BAD_SIGNATURE),
        (hello(signature="not base64"), {}, CloseCode.BAD_SIGNATURE),
        (hello(time=1001.0), {}, CloseCode.BAD_SIGNATURE),
        (hello(now=1301.0), {}, CloseCode.CLOCK_SKEW),
        (hello(now=699.0), {}, CloseCode.CLOCK_SKEW),
        (hello(now=1300.0), {}, None),
        (NAN, {}, CloseCode.CLOCK_SKEW),
    ],
)
def test_each_wrong_hello_has_its_code(frame: Hello, changes: dict[str, Any], expected: CloseCode | None) -> None:
    assert code(frame, **changes) is expected


def test_a_hello_signed_with_another_key_is_refused() -> None:
    other = Identity.from_base64(generate_seed())
    assert code(hello(public_key=other.public_key), known={other.public_key}) is CloseCode.BAD_SIGNATURE


@pytest.mark.parametrize(
    "text", ["", "!!", base64.b64encode(b"short").decode(), base64.b64encode(bytes(33)).decode()]
)
def test_a_wrong_seed_names_the_setting_and_not_its_value(text: str) -> None:
    with pytest.raises(ConfigError, match="GPU_WORKER_PRIVATE_KEY") as caught:
        Identity.from_base64(text)
    assert not text or text not in str(caught.value)


def test_the_repr_does_not_show_the_seed() -> None:
    assert SEED not in repr(ME)


def test_seeds_differ() -> None:
    assert generate_seed() != generate_seed()
