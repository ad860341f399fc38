"""A model whose template knows no tools is told of them in words, in the very syntax its calls are read in."""

from __future__ import annotations

import json

import pytest

from tests.worker.chat.toolcalls.reading import read
from worker.chat.teaching import taught
from worker.chat.template import CHATML, ChatTemplate
from worker.chat.toolcalls.family import FAMILIES, GENERIC

HI = {"role": "user", "content": "hi"}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "get_time", "arguments": {"zone": "UTC"}}}


def test_without_tools_nothing_changes() -> None:
    assert taught([HI], [], GENERIC) == (HI,)


def test_the_lesson_comes_first_or_joins_the_system_message() -> None:
    lesson, hi = taught([HI], [TIME], GENERIC)
    assert (lesson["role"], hi) == ("system", HI)
    assert json.dumps(TIME["function"]) in lesson["content"]
    joined, _ = taught([{"role": "system", "content": "Be brief."}, HI], [TIME], GENERIC)
    assert joined["content"].startswith("Be brief.\n\n")
    assert joined["content"].endswith(lesson["content"])


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_an_earlier_call_is_shown_as_the_family_writes_it(family) -> None:
    said, answered = taught(
        [
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "noon"},
        ],
        [],
        family,
    )
    assert read(family, [said["content"]]) == ("", [("get_time", {"zone": "UTC"})])
    assert "tool_calls" not in said
    assert (answered["role"], answered["content"]) == ("user", "The tool answered:\nnoon")


def test_templates_say_whether_they_read_tools() -> None:
    assert not ChatTemplate(CHATML).reads_tools
    assert ChatTemplate("{% if tools %}{{ tools | tojson }}{% endif %}{{ messages[0].content }}").reads_tools
