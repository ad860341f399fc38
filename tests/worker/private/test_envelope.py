"""Envelopes the official SDK made: what opens, and what must not."""

from __future__ import annotations

import base64

import pytest

from tasks.errors import BadRequestError, UnavailableError
from tasks.private import parse_envelope
from tests.worker.private.sealed_by import MODEL, keyring, seal
from worker.private.envelope import associated_data, open_envelope
from worker.private.keys import WorkloadKey

KEY, OTHER = WorkloadKey.generate(), WorkloadKey.generate()
BODY = {"messages": [{"role": "user", "content": "the-patient"}]}
AS_SENT = {"model": MODEL, "stream": False, "task_type": "chat"}


def test_an_envelope_of_the_sdk_opens(tmp_path):
    envelope, decryptor = seal(BODY, OTHER, KEY)
    opened = open_envelope(parse_envelope(envelope), keyring(tmp_path, KEY), **AS_SENT)
    assert (opened.kid, opened.body, opened.binary) == (KEY.kid, BODY, None)
    assert opened.response_key == decryptor._keys[KEY.kid]
    assert opened.resume_key not in {opened.response_key, bytes(32)}
    assert "the-patient" not in repr(opened)


def test_opened_again_it_gives_the_same_keys_and_another_envelope_others(tmp_path):
    ring = keyring(tmp_path, KEY)
    envelope, _ = seal(BODY, KEY)
    once, again = (open_envelope(parse_envelope(envelope), ring, **AS_SENT) for _ in range(2))
    assert once == again
    other = open_envelope(parse_envelope(seal(BODY, KEY)[0]), ring, **AS_SENT)
    assert other.reply_id != once.reply_id
    assert other.response_key != once.response_key


def test_the_binary_part(tmp_path):
    envelope, _ = seal({}, KEY, task_type="transcription", binary=b"RIFF\0\xff")
    opened = open_envelope(
        parse_envelope(envelope), keyring(tmp_path, KEY), **{**AS_SENT, "task_type": "transcription"}
    )
    assert opened.binary == b"RIFF\0\xff"


@pytest.mark.parametrize("change", [{"model": "other"}, {"stream": True}, {"task_type": "rerank"}])
def test_it_is_bound_to_model_stream_and_task(tmp_path, change):
    envelope, _ = seal(BODY, KEY)
    with pytest.raises(BadRequestError) as caught:
        open_envelope(parse_envelope(envelope), keyring(tmp_path, KEY), **{**AS_SENT, **change})
    assert caught.value.code == "envelope_not_opened"


@pytest.mark.parametrize("field", ["nonce", "ciphertext", "enc", "sealed_dek", "binary_nonce", "binary_ciphertext"])
def test_a_flipped_bit_does_not_open(tmp_path, field):
    envelope, _ = seal(BODY, KEY, task_type="transcription", binary=b"sound")
    holder = envelope if field in envelope else envelope["recipients"][0]
    raw = bytearray(base64.b64decode(holder[field]))
    raw[len(raw) // 2] ^= 1
    holder[field] = base64.b64encode(raw).decode()
    with pytest.raises(BadRequestError) as caught:
        open_envelope(parse_envelope(envelope), keyring(tmp_path, KEY), **{**AS_SENT, "task_type": "transcription"})
    assert caught.value.code == "envelope_not_opened"


@pytest.mark.parametrize("enc", [bytes(32), b"\x01" + bytes(31)])
def test_a_point_of_small_order_does_not_open(tmp_path, enc):
    envelope, _ = seal(BODY, KEY)
    envelope["recipients"][0]["enc"] = base64.b64encode(enc).decode()
    with pytest.raises(BadRequestError):
        open_envelope(parse_envelope(envelope), keyring(tmp_path, KEY), **AS_SENT)


def test_a_key_we_do_not_hold(tmp_path):
    with pytest.raises(UnavailableError) as caught:
        open_envelope(parse_envelope(seal(BODY, OTHER)[0]), keyring(tmp_path, KEY), **AS_SENT)
    assert caught.value.code == "no_private_inference_worker"


def test_an_attempt_that_goes_on_takes_the_key_of_the_one_before(tmp_path):
    """Another of our keys would be another response key."""
    envelope, _ = seal(BODY, KEY, OTHER)
    ring = keyring(tmp_path, KEY, OTHER)
    assert open_envelope(parse_envelope(envelope), ring, **AS_SENT, kid=OTHER.kid).kid == OTHER.kid
    with pytest.raises(UnavailableError):
        open_envelope(parse_envelope(envelope), keyring(tmp_path, KEY), **AS_SENT, kid=OTHER.kid)


@pytest.mark.parametrize("body", [b"no json", b"[1]", b'"the-patient"', b"\xff"])
def test_what_is_inside_must_be_an_object(tmp_path, body):
    with pytest.raises(BadRequestError) as caught:
        open_envelope(parse_envelope(seal(body, KEY)[0]), keyring(tmp_path, KEY), **AS_SENT)
    assert "the-patient" not in caught.value.message


def test_the_associated_data_is_the_documented_one():
    assert associated_data("m:1b", stream=True, task_type="chat") == b"pendra-pi-v1\0m:1b\x001\0chat\0"
