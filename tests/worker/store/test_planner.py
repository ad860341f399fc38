"""What an install decides from what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.store.errors import DiskFullError, SourceError
from worker.store.planner import (
    Action,
    InstallSpec,
    Present,
    Step,
    View,
    check_room,
    decide,
    human,
    needed_bytes,
    next_step,
    target,
)
from worker.store.sidecar import Sidecar

HASH = "a" * 64
SPEC = InstallSpec("m:1", "https://h/x.gguf", sha256=HASH, size=10)


def side(**more: object) -> Sidecar:
    values = {"id": "m:1", "purpose": "chat", "source": "s", "sha256": HASH, "size": 10, "installed_at": 1.0}
    return Sidecar.model_validate(values | more)


def test_the_part_of_a_file_is_no_model_yet():
    goal = target(SPEC, Path("/store"))
    assert goal.path == Path("/store/x.gguf")
    for path in (goal.part("x.gguf"), goal.quarantine("x.gguf")):
        assert path.is_relative_to("/store")  # one rename on one filesystem
        assert path.suffix != ".gguf"
        assert path.parts[2].startswith(".")


@pytest.mark.parametrize(
    ("view", "step"),
    [
        (View(), Step.RESOLVE),
        (View(files=2), Step.PREFLIGHT),
        (View(files=2, has_room=True), Step.DOWNLOAD),
        (View(files=2, has_room=True, complete=1, verified=1), Step.DOWNLOAD),
        (View(files=2, complete=2, verified=1), Step.VERIFY),
        (View(files=2, complete=2, verified=2), Step.INSPECT),
        (View(files=2, complete=2, verified=2, inspected=True), Step.PLACE),
        (View(placing=True), Step.PLACE),
    ],
)
def test_the_order_of_an_install(view: View, step: Step):
    assert next_step(view) is step


def test_a_split_model_is_named_by_its_first_file_and_has_a_hash_a_file():
    goal = target(InstallSpec("m", "https://h/x-00001-of-00002.gguf"), Path("/s"))
    assert goal.names == ("x-00001-of-00002.gguf", "x-00002-of-00002.gguf")
    with pytest.raises(SourceError, match=r"name its first, x-00001-of-00002\.gguf"):
        target(InstallSpec("m", "https://h/x-00002-of-00002.gguf"), Path("/s"))
    with pytest.raises(SourceError, match="each with a hash of its own"):
        target(InstallSpec("m", "https://h/x-00001-of-00002.gguf", sha256=HASH), Path("/s"))


def test_mirrors_have_the_same_file():
    with pytest.raises(SourceError, match="mirrors"):
        target(InstallSpec("m", "https://h/x.gguf", mirrors=("https://g/y.gguf",)), Path("/s"))


@pytest.mark.parametrize(
    ("present", "action"),
    [
        (Present(), Action.FETCH),
        (Present(10, side()), Action.NOTHING),
        (Present(9, side()), Action.FETCH),  # cut short behind our back
        (Present(10, side(sha256="b" * 64)), Action.FETCH),  # the catalogue has a newer one
        (Present(10, None), Action.ADOPT),
        (Present(None, side()), Action.FETCH),
    ],
)
def test_what_to_do(present: Present, action: Action):
    assert decide(SPEC, present) is action


def test_without_a_hash_what_was_installed_stays():
    assert decide(InstallSpec("m:1", "https://h/x.gguf"), Present(10, side())) is Action.NOTHING


def test_another_models_file_is_not_replaced():
    with pytest.raises(SourceError, match="of model other"):
        decide(SPEC, Present(10, side(id="other")))


def test_a_file_put_there_by_hand_is_not_replaced_by_one_nobody_can_check():
    with pytest.raises(SourceError, match="by hand"):
        decide(InstallSpec("m:1", "https://h/x.gguf"), Present(10, None))


def test_plain_http_needs_a_hash():
    with pytest.raises(SourceError, match="plain http"):
        target(InstallSpec("m:1", "http://h/x.gguf"), Path("/store"))


def test_a_hash_is_64_hexadecimal_digits():
    with pytest.raises(SourceError, match="SHA-256"):
        target(InstallSpec("m:1", "https://h/x.gguf", sha256="abc"), Path("/store"))


def test_room_counts_what_is_there_and_a_wheel_twice():
    http, wheel = target(SPEC, Path()).source, target(InstallSpec("m", "pypi://p/1/x.gguf"), Path()).source
    assert needed_bytes(http, 100, 30) == 70
    assert needed_bytes(http, 100, 130) == 0
    assert needed_bytes(http, None, 0) == 0
    assert needed_bytes(wheel, 100, 30) == 200


def test_no_room_names_both_numbers():
    check_room(10, 10, Path("/store"))
    with pytest.raises(DiskFullError, match=r"/store has 1.5 GB free and 42.0 GB are needed"):
        check_room(42_000_000_000, 1_500_000_000, Path("/store"))


def test_sizes_for_people():
    assert [human(n) for n in (0, 999, 1000, 98_362_432, 4.2e13)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "98.4 MB",
        "42.0 TB",
    ]
