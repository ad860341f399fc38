"""The chat template tells which family's syntax a model speaks."""

from __future__ import annotations

import pytest

from worker.chat.toolcalls import family as f
from worker.chat.toolcalls.family import ToolFamily, detect_family


@pytest.mark.parametrize(
    ("template", "family"),
    [
        ("""{{- '<tool_call>\\n{"name": "' }}{{- tool_call.name }}""", f.HERMES),
        ("<tool_call>{{ '<function=' + name + '>' }}<parameter=", f.QWEN_XML),
        ("""Respond in the format {"name": function name, "parameters": …} message.role == 'ipython'""", f.LLAMA3),
        ("""ipython {{- '"parameters": ' }}""", f.LLAMA3),
        ("<|python_tag|>", f.LLAMA3),
        ('{{- "[TOOL_CALLS][" }}', f.MISTRAL),
        ('{{- "[TOOL_CALLS]" + name + "[ARGS]" + arguments }}', f.MISTRAL_ARGS),
        ("'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + '\\n' + '```json'", f.DEEPSEEK),
        ("'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + name + '<｜tool▁sep｜>'", f.DEEPSEEK_V31),
        ("<|start|>assistant<|channel|>analysis<|message|>", f.HARMONY),
        ("<tool_call>{{ name }}<arg_key>", f.GENERIC),
        ("{{ messages }}", f.GENERIC),
        ("", f.GENERIC),
    ],
)
def test_the_template_tells_the_family(template: str, family: ToolFamily) -> None:
    assert detect_family(template) is family


def test_gpt_oss_is_known_by_its_architecture() -> None:
    assert detect_family("{{ messages }}", "gpt-oss") is f.HARMONY


def test_markers_begin_the_syntax_they_belong_to() -> None:
    for family in f.FAMILIES:
        if family.trigger:
            assert (family.syntax.opening + family.syntax.before).startswith(family.trigger)
            assert family.trigger in family.markers
