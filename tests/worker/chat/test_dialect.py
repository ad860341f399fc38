"""What a chat template says about a model's way of writing, and when its text needs no parser at all."""

from __future__ import annotations

import pytest

from worker.chat.dialect import Dialect
from worker.chat.reasoning import HARMONY
from worker.chat.template import CHATML
from worker.chat.toolcalls import family
from worker.chat.toolcalls.forced import Tool

TOOL = Tool("get_time", {"type": "object"})


@pytest.mark.parametrize(
    ("template", "opening", "calls"),
    [
        (CHATML, None, family.GENERIC),
        ("{{ '<think>' }}<tool_call>", "<think>", family.HERMES),
        ("[THINK][TOOL_CALLS]", "[THINK]", family.MISTRAL),
    ],
)
def test_the_template_tells(template, opening, calls):
    told = Dialect.of(template)
    assert (told.reasoning and told.reasoning.opening, told.family) == (opening, calls)


def test_gpt_oss_speaks_harmony_with_any_template():
    assert Dialect.of(CHATML, "gpt-oss") == Dialect(HARMONY, family.HARMONY)


def test_plain_text_needs_no_parser():
    assert Dialect.of(CHATML).parser("prompt", (), "j1") is None
    assert Dialect.of("<tool_call>").parser("prompt", (), "j1") is None


def test_tools_or_reasoning_need_one():
    assert Dialect.of(CHATML).parser("prompt", (TOOL,), "j1") is not None
    thinking = Dialect.of("<think>").parser("prompt<think>\n", (), "j1")
    assert thinking is not None
    assert thinking.reasoning


def test_the_same_job_gives_the_same_call_ids_as_the_family_wants_them():
    said = '[TOOL_CALLS][{"name": "get_time", "arguments": {}}]'
    parts = [Dialect.of("[TOOL_CALLS]").parser("", (TOOL,), "j1").feed(said) for _ in range(2)]
    assert parts[0] == parts[1]
    assert len(parts[0][0].id) == 9
