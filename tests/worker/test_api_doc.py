"""docs/api.md says what the request readers do: every field they read or refuse has its row, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from worker.chat.request import ChatFields
from worker.chat.unsupported import _RULES as CHAT_REFUSES
from worker.completion.request import CompletionFields
from worker.completion.unsupported import _RULES as COMPLETION_REFUSES
from worker.generate.fields import GenerationFields

DOC = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
ELSEWHERE = {"model", "response_format", "json_schema", "grammar", "keep_alive"}
"""Read by the control plane, by `worker.chat.structured`, and by `worker.keeper`."""


def rows(heading: str) -> list[tuple[set[str], str]]:
    """The names in the first column of a section's table, and the second column."""
    section = DOC.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    return [(set(re.findall(r"`([^`]+)`", row[1])), row[2].strip()) for row in cells]


def said(heading: str, verdict: str) -> set[str]:
    return {name for names, told in rows(heading) if told.startswith(verdict) for name in names}


def test_every_field_of_a_chat_is_told() -> None:
    assert said("POST /chat/completions", "yes") == set(ChatFields.model_fields) | ELSEWHERE
    assert said("POST /chat/completions", "400") == set(CHAT_REFUSES)
    assert not said("POST /chat/completions", "ignored") & (set(ChatFields.model_fields) | set(CHAT_REFUSES))


def test_every_field_of_a_completion_is_told() -> None:
    shared = set(GenerationFields.model_fields)
    assert said("POST /completions", "yes") == set(CompletionFields.model_fields) - shared
    assert said("POST /completions", "400") == set(COMPLETION_REFUSES)
    assert shared <= said("POST /chat/completions", "yes")
