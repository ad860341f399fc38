"""Reasoning is split from content, however the text arrives, and nothing but tags is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.chat.structured.toy_vocab import babble, toy_vocab
from worker.chat.reasoning import HARMONY, Channel, ReasoningStyle, Splitter, detect_reasoning
from worker.chat.structured.schema import compile_schema

THINK = ReasoningStyle()
MISTRAL = ReasoningStyle("[THINK]", "[/THINK]")
REASONING, CONTENT, CALL = Channel.REASONING, Channel.CONTENT, Channel.CALL


def split(splitter: Splitter, pieces: Sequence[str]) -> dict[Channel, str]:
    """The text of each channel, whole; checks that nothing empty is handed out."""
    out = [piece for text in pieces for piece in splitter.feed(text)] + splitter.finish()
    assert all(text for _, text in out)
    return {channel: text for channel in Channel if (text := "".join(t for c, t in out if c is channel))}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello", {CONTENT: "Hello"}),
        ("  <b>hi</b>", {CONTENT: "  <b>hi</b>"}),
        ("<think>\nLet me see.\n</think>\n\nParis.", {REASONING: "Let me see.", CONTENT: "Paris."}),
        ("\n<think>a</think>b", {REASONING: "a", CONTENT: "b"}),
        ("<think>\n\n</think>\n\nParis.", {CONTENT: "Paris."}),
        ("<think>if a < b: </thin", {REASONING: "if a < b: </thin"}),
        ("<think>never ends \n", {REASONING: "never ends \n"}),
        ("Use <think> like this: <think>x</think>", {CONTENT: "Use <think> like this: <think>x</think>"}),
        ("<think>a</think>b</think>c", {REASONING: "a", CONTENT: "b</think>c"}),
        ("<thin", {CONTENT: "<thin"}),
        ("", {}),
    ],
)
def test_think_tags(text: str, expected: dict[Channel, str]) -> None:
    assert split(THINK.splitter(), [text]) == expected
    assert split(THINK.splitter(), list(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Let me see.\n</think>\n\nParis.", {REASONING: "Let me see.", CONTENT: "Paris."}),
        ("<think>\nagain\n</think>\nParis.", {REASONING: "again", CONTENT: "Paris."}),
        ("</think>Paris.", {CONTENT: "Paris."}),
        ("cut o", {REASONING: "cut o"}),
        ("<thi", {REASONING: "<thi"}),
    ],
)
def test_a_block_that_the_prompt_opened(text: str, expected: dict[Channel, str]) -> None:
    prompt = "<|Assistant|><think>\n"
    assert split(THINK.splitter(prompt), [text]) == expected
    assert split(THINK.splitter(prompt), list(text)) == expected


def test_an_empty_block_in_the_prompt_is_closed() -> None:
    prompt = "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert split(THINK.splitter(prompt), ["Paris."]) == {CONTENT: "Paris."}


def test_mistral_tags() -> None:
    assert split(MISTRAL.splitter(), ["[THINK]hm[/THINK]", "Yes"]) == {REASONING: "hm", CONTENT: "Yes"}


def test_text_is_shown_as_soon_as_it_cannot_be_a_tag() -> None:
    splitter = THINK.splitter()
    assert splitter.feed("<thi") == []
    assert splitter.feed("nk>One") == [(REASONING, "One")]
    assert splitter.feed(" two </") == [(REASONING, " two")]
    assert splitter.feed("b> three") == [(REASONING, " </b> three")]
    assert splitter.feed("</think>") == []
    assert splitter.feed("\n\nA") == [(CONTENT, "A")]
    assert splitter.feed(" <think>") == [(CONTENT, " <think>")]


def test_reasoning_tokens_are_counted_until_the_block_ends() -> None:
    splitter = THINK.splitter("<think>\n")
    for text in ("Let", " me", " see", "</think>", "Paris", "."):
        splitter.feed(text, tokens=1)
    assert splitter.reasoning_tokens == 4
    assert not splitter.reasoning


def test_a_reply_that_ends_inside_its_reasoning_says_so() -> None:
    splitter = THINK.splitter()
    splitter.feed("<think>and so")
    splitter.finish()
    assert splitter.reasoning


GPT_OSS_CALL = (
    "<|channel|>analysis<|message|>Need weather.<|end|>"
    "<|start|>assistant<|channel|>commentary to=functions.get_weather "
    '<|constrain|>json<|message|>{"city":"Paris"}<|call|>'
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "<|channel|>analysis<|message|>I'm\nthinking<|end|><|start|>assistant<|channel|>final<|message|>Hello!",
            {REASONING: "I'm\nthinking", CONTENT: "Hello!"},
        ),
        ("<|channel|>final<|message|>Hi<|return|>", {CONTENT: "Hi"}),
        ("<|channel|>commentary<|message|>I will look.<|end|><|start|>assistant<|channel|>final<|message|>Ok",
         {CONTENT: "I will look.Ok"}),
        (
            GPT_OSS_CALL,
            {
                REASONING: "Need weather.",
                CALL: "<|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
                '{"city":"Paris"}<|call|>',
            },
        ),
        (' to=functions.f<|channel|>commentary json<|message|>{"a": 1}',
         {CALL: ' to=functions.f<|channel|>commentary json<|message|>{"a": 1}'}),
        ("<|channel|>commentary to=assistant<|channel|>final<|message|>Hi", {CONTENT: "Hi"}),
        ("<|channel|>analysis<|message|>cut <|en", {REASONING: "cut <|en"}),
        ("plain text", {CONTENT: "plain text"}),
        ("<|channel|>weird stuff", {CONTENT: "<|channel|>weird stuff"}),
        ("<|channel|>" + "x" * 600, {CONTENT: "<|channel|>" + "x" * 600}),
        ("<|channel|>" + "x" * 600 + "<|message|>y", {CONTENT: "<|channel|>" + "x" * 600 + "<|message|>y"}),
    ],
)  # fmt: skip
def test_harmony_channels(text: str, expected: dict[Channel, str]) -> None:
    assert split(HARMONY.splitter(), [text]) == expected
    assert split(HARMONY.splitter(), list(text)) == expected


def _texts(parts: Sequence[str]) -> st.SearchStrategy[str]:
    return st.lists(st.one_of(st.sampled_from(parts), st.text("<think>/ \nab|", max_size=5)), max_size=12).map(
        "".join
    )


TAG_TEXTS = _texts(["<think>", "</think>", "\n\n", "Hello", " ", "<", "</"])
HARMONY_TEXTS = _texts([
    "<|start|>assistant", "<|channel|>", "<|message|>", "<|end|>", "<|call|>", "<|constrain|>json", "analysis",
    "final", "commentary", " to=functions.f", " to=assistant", '{"a": 1}', "Hi", " ",
])  # fmt: skip


@st.composite
def cuts(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> tuple[str, list[str]]:
    text = draw(texts)
    at = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    return text, [text[i:j] for i, j in zip([0, *at], [*at, len(text)], strict=True)]


@pytest.mark.parametrize("make", [THINK.splitter, lambda: THINK.splitter("<think>")])
@given(cut=cuts(TAG_TEXTS))
def test_any_split_gives_the_same(make: Callable[[], Splitter], cut: tuple[str, list[str]]) -> None:
    text, pieces = cut
    assert split(make(), pieces) == split(make(), [text])


@given(cut=cuts(HARMONY_TEXTS))
def test_any_split_of_channels_gives_the_same(cut: tuple[str, list[str]]) -> None:
    text, pieces = cut
    assert split(HARMONY.splitter(), pieces) == split(HARMONY.splitter(), [text])


@given(text=TAG_TEXTS)
def test_only_tags_and_blanks_beside_them_are_taken_away(text: str) -> None:
    begin, opened, body = text.partition("<think>")
    if begin.strip() or not opened:
        expected = {CONTENT: text}
    else:
        thought, closed, rest = body.partition("</think>")
        expected = {REASONING: thought.strip() if closed else thought.lstrip(), CONTENT: rest.lstrip()}
    assert split(THINK.splitter(), [text]) == {channel: part for channel, part in expected.items() if part}


@pytest.mark.parametrize(
    ("template", "style"),
    [
        ("{{ '<|im_start|>' }}", None),
        ("{% if '</think>' in content %}", THINK),
        ("[THINK]{{ thinking }}[/THINK]", MISTRAL),
        ("<|start|>assistant<|channel|>analysis<|message|>", HARMONY),
        ("<seed:think>", ReasoningStyle("<seed:think>", "</seed:think>")),
    ],
)
def test_the_template_tells_the_style(template: str, style: ReasoningStyle | None) -> None:
    assert detect_reasoning(template) == style


SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("style", "prompt"), [(THINK, ""), (THINK, "<think>\n"), (MISTRAL, ""), (HARMONY, "<|start|>assistant")]
)
@pytest.mark.parametrize("seed", range(3))
def test_a_constrained_reply_may_reason_first(style: ReasoningStyle, prompt: str, seed: int) -> None:
    grammar = compile_schema(SCHEMA).grammar(style.prelude(prompt))
    begin = {THINK: "" if prompt else "<think>", MISTRAL: "[THINK]", HARMONY: "<|channel|>analysis<|message|>"}[style]
    end = "<|end|><|start|>assistant<|channel|>final<|message|>" if style.harmony else f"{style.closing}\n\n"
    said = f"{begin}I think.{end}"
    vocab = toy_vocab()
    constraint = vocab.constraint(grammar, [byte + 2 for byte in said.encode()])
    text = babble(constraint, np.random.default_rng(seed))
    assert text is not None
    parts = split(style.splitter(prompt), [said + text.decode()])
    assert parts[REASONING] == "I think."
    jsonschema.validate(json.loads(parts[CONTENT]), SCHEMA)
