from __future__ import annotations

import pytest

from tasks.errors import ConfigError
from worker.engine.config import EngineConfig


def test_cells_are_enough_for_every_slot_by_default() -> None:
    config = EngineConfig(slots=4, ctx_per_seq=1000)
    assert (config.cells, config.overcommitted) == (4000, False)


@pytest.mark.parametrize(
    ("settings", "unified"),
    [
        ({"slots": 4}, False),
        ({"slots": 1}, True),
        ({"slots": 4, "ctx_per_seq": 1000, "n_ctx": 2000}, True),
        ({"slots": 4, "kv_unified": True}, True),
    ],
)
def test_slots_share_a_pool_only_when_they_must_or_are_told_to(settings: dict[str, int], unified: bool) -> None:  # noqa: FBT001  # a table
    assert EngineConfig(**settings).unified is unified


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"slots": 0}, "slots"),
        ({"slots": 65}, "slots"),
        ({"ctx_per_seq": 0}, "ctx_per_seq"),
        ({"n_ctx": 0}, "n_ctx"),
        ({"slots": 8, "n_batch": 8}, "n_batch"),
        ({"n_ubatch": 0}, "n_ubatch"),
        ({"threads": 0}, "threads"),
        ({"prefill_chunk": 0}, "prefill_chunk"),
        ({"slots": 2, "ctx_per_seq": 100, "n_ctx": 150, "kv_unified": False}, "kv_unified"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(settings: dict[str, int], name: str) -> None:
    with pytest.raises(ConfigError, match=rf"engine setting {name} is .*allowed"):
        EngineConfig(**settings)
