"""The fleet seal: what opens, and that nothing else does."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import ConfigError, SealError
from tasks.sealing import FleetKey, Opener, Sealer, event_aad, payload_aad

KEY = FleetKey(bytes(range(32)))
AAD = payload_aad("job-1")


@given(st.binary(max_size=5000), st.binary(max_size=50))
def test_what_is_sealed_opens_again(plaintext, aad):
    assert Opener(KEY).open(Sealer(KEY).seal(plaintext, aad), aad) == plaintext


def test_the_plaintext_is_not_visible():
    assert b"patient" not in Sealer(KEY).seal(b"the patient is well", AAD)


def test_no_flipped_bit_opens():
    sealed = Sealer(KEY).seal(b"secret", AAD)
    for index in range(len(sealed)):
        broken = bytearray(sealed)
        broken[index] ^= 1
        with pytest.raises(SealError):
            Opener(KEY).open(bytes(broken), AAD)


def test_no_truncation_opens():
    sealed = Sealer(KEY).seal(b"secret", AAD)
    for length in range(len(sealed)):
        with pytest.raises(SealError):
            Opener(KEY).open(sealed[:length], AAD)


@pytest.mark.parametrize(
    ("sealed_as", "opened_as"),
    [
        (payload_aad("a"), payload_aad("b")),
        (event_aad("a", 0, 1), event_aad("a", 0, 2)),
        (event_aad("a", 0, 1), event_aad("a", 1, 1)),
        (event_aad("a", 0, 1), payload_aad("a")),
    ],
)
def test_a_message_moved_elsewhere_does_not_open(sealed_as, opened_as):
    with pytest.raises(SealError, match="moved"):
        Opener(KEY).open(Sealer(KEY).seal(b"x", sealed_as), opened_as)


def test_another_fleets_key_does_not_open_and_is_named():
    other = FleetKey.generate()
    with pytest.raises(SealError, match=other.id.hex()):
        Opener(KEY).open(Sealer(other).seal(b"x", AAD), AAD)


def test_during_rotation_both_keys_open():
    old, new = FleetKey.generate(), FleetKey.generate()
    opener = Opener(new, old)
    assert opener.open(Sealer(old).seal(b"x", AAD), AAD) == b"x"
    assert opener.open(Sealer(new).seal(b"y", AAD), AAD) == b"y"


def test_no_two_messages_share_a_nonce_and_no_two_processes_a_salt():
    one, two = Sealer(KEY), Sealer(KEY)
    heads = {sealer.seal(b"", b"")[:31] for sealer in (one, two) for _ in range(100)}
    assert len(heads) == 200


@pytest.mark.parametrize("text", ["", "not base64!", "QUJD", FleetKey(os.urandom(32)).to_base64()[:-4]])
def test_a_bad_key_is_refused_by_its_setting_name(text):
    with pytest.raises(ConfigError, match="PENDRA_FLEET_KEY"):
        FleetKey.from_base64(text)


def test_a_key_round_trips_as_base64_and_hides_in_repr():
    assert FleetKey.from_base64(KEY.to_base64()).id == KEY.id
    assert KEY.to_base64() not in repr(KEY)


def test_many_processes_do_not_grow_the_opener():
    opener = Opener(KEY)
    for _ in range(1100):
        opener.open(Sealer(KEY).seal(b"", b""), b"")
    assert len(opener._subkeys) <= 1024
