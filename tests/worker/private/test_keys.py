"""The file of workload keys: made once, rotated with two live keys, read again while workers run."""

from __future__ import annotations

import hashlib
import stat

import pytest

from tasks.errors import ConfigError
from worker.private import keys
from worker.private.keys import Keyring, WorkloadKey


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "workload-key"


def test_it_is_made_once_and_for_its_owner_only(path):
    assert keys.ensure(path)
    (first,) = keys.load(path)
    assert not keys.ensure(path)
    assert keys.load(path)[0].kid == first.kid
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_kid_is_the_hash_of_the_public_key_and_repr_shows_no_more():
    key = WorkloadKey.generate()
    assert key.kid == hashlib.sha256(key.public).hexdigest()
    assert repr(key) == f"WorkloadKey(kid={key.kid})"
    assert WorkloadKey.from_base64(key.to_base64()).kid == key.kid


def test_two_keys_live_during_a_rotation(path):
    keys.ensure(path)
    (first,) = keys.load(path)
    second, still = keys.rotate(path)
    assert still.kid == first.kid
    third, still = keys.rotate(path)
    assert (still.kid, len({first.kid, second.kid, third.kid})) == (second.kid, 3)
    assert [key.kid for key in keys.retire(path)] == [second.kid]
    assert [key.kid for key in keys.load(path)] == [third.kid]
    assert keys.retire(path) == ()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_running_worker_sees_the_new_key(path):
    keys.ensure(path)
    ring = Keyring(path)
    before = ring.live()
    keys.rotate(path)
    assert [key.kid for key in ring.live()][1:] == [key.kid for key in before]
    assert ring.first_of(["x", before[0].kid]).kid == before[0].kid
    assert ring.first_of(["x"]) is None


@pytest.mark.parametrize("change", ["bad", "gone"])
def test_a_file_that_breaks_takes_no_live_key_away(path, change, caplog):
    keys.ensure(path)
    ring = Keyring(path)
    before = ring.live()
    if change == "bad":
        path.write_text("c2VjcmV0\n")
    else:
        path.unlink()
    assert ring.live() == before
    assert f"workload_keys.{change}" in caplog.text
    assert "c2VjcmV0" not in caplog.text


def test_without_a_file_there_are_no_keys(path):
    assert Keyring(path).live() == ()


@pytest.mark.parametrize("text", ["", "no base64!", "c2hvcnQ="])
def test_a_bad_file_is_named_and_not_quoted(path, text):
    path.parent.mkdir()
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="workload-key") as caught:
        Keyring(path)
    assert not text or text not in caught.value.message
