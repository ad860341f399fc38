"""Several choices of one prompt."""

from __future__ import annotations

import pytest

from tasks.errors import BadRequestError
from tests.worker.engine.conftest import StartEngine
from worker.engine.api import FinishReason, SamplingParams
from worker.engine.runner import LEAST_COPY

SHORT = "The sea and the ship."
LONG = "The story of the sea and of the ship. " * 5
SEEDED = SamplingParams(temperature=1.0, seed=7)


@pytest.mark.parametrize("unified", [True, False])
@pytest.mark.parametrize("prompt", [SHORT, LONG])
def test_choices_say_what_single_requests_with_their_seeds_say(
    start_engine: StartEngine,
    prompt: str,
    unified: bool,  # noqa: FBT001  # a parameter
) -> None:
    alone = [
        start_engine(slots=1).run(prompt, sampling=SamplingParams(temperature=1.0, seed=7 + number)).tokens
        for number in range(3)
    ]
    reply = start_engine(kv_unified=unified).run(prompt, sampling=SEEDED, n=3)
    assert [reply.choices[number].tokens for number in range(3)] == alone


@pytest.mark.parametrize("unified", [True, False])
def test_the_prompt_is_evaluated_and_counted_once(start_engine: StartEngine, unified: bool) -> None:  # noqa: FBT001  # a parameter
    harness = start_engine(kv_unified=unified, n_batch=64, n_ubatch=64)
    count = len(harness.model.tokenize(LONG))
    assert count > 2 * LEAST_COPY
    reply = harness.run(LONG, sampling=SEEDED, n=4, max_tokens=6)
    usage = reply.last.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (count, 24, 0)
    assert harness.engine.stats().steps <= -(-count // 64) + 7, "the others evaluate one token of the prompt each"
    assert harness.engine.stats().prompt_tokens == count


def test_only_the_last_output_of_all_has_the_usage(start_engine: StartEngine) -> None:
    reply = start_engine().run(SHORT, sampling=SEEDED, n=3, max_tokens=5)
    assert sorted(choice.finish for choice in reply.choices.values()) == [FinishReason.LENGTH] * 3
    assert [piece.usage is not None for piece in reply.pieces].count(True) == 1
    assert reply.last.timing is not None


def test_more_choices_than_slots(start_engine: StartEngine) -> None:
    reply = start_engine(slots=2).run(SHORT, sampling=SEEDED, n=5, max_tokens=5)
    assert sorted(len(choice.tokens) for choice in reply.choices.values()) == [5] * 5


def test_too_few_cells_for_all(start_engine: StartEngine) -> None:
    # without flash attention, whose sums hang on the layout of the cache enough to turn a near tie
    roomy = start_engine(slots=4, flash_attn=False).run(SHORT, sampling=SEEDED, n=4, max_tokens=80)
    tight = start_engine(slots=4, n_ctx=256, flash_attn=False).run(SHORT, sampling=SEEDED, n=4, max_tokens=80)
    for number in range(4):
        assert tight.choices[number].tokens == roomy.choices[number].tokens


def test_cancel_ends_every_choice_wherever_it_stands(start_engine: StartEngine) -> None:
    harness = start_engine(slots=2, ctx_per_seq=2000)
    under_way = harness.stop_at("many", lambda reply: len(reply.choices) >= 2)
    harness.submit("many", SHORT, sampling=SEEDED, n=4, max_tokens=None, ignore_eos=True)
    with under_way:
        harness.engine.cancel("many")
    reply = harness.wait("many")
    assert {choice.finish for choice in reply.choices.values()} == {FinishReason.CANCELLED}
    assert len(reply.choices) == 4
    assert harness.run("Hello").finish is FinishReason.LENGTH


def test_cancel_while_the_others_are_held(start_engine: StartEngine) -> None:
    harness = start_engine(slots=2, ctx_per_seq=2000, n_batch=4, n_ubatch=4)
    harness.submit("many", "x" * 1500, n=3)
    harness.engine.cancel("many")
    assert [choice.finish for choice in harness.wait("many").choices.values()] == [FinishReason.CANCELLED] * 3


@pytest.mark.parametrize("fields", [{"max_tokens": 0}, {"max_tokens": 3, "resume": (70, 71, 72)}])
def test_choices_that_are_over_before_they_start(start_engine: StartEngine, fields: dict[str, object]) -> None:
    reply = start_engine().run("Hello", n=3, **fields)
    assert {choice.finish for choice in reply.choices.values()} == {FinishReason.LENGTH}
    assert len(reply.choices) == 3


def test_close_ends_held_choices_too(start_engine: StartEngine) -> None:
    harness = start_engine(slots=1, ctx_per_seq=2000, n_batch=4, n_ubatch=4)
    harness.submit("many", "x" * 1500, n=3)
    harness.close()
    reply = harness.wait("many")
    assert [choice.last.error.code for choice in reply.choices.values() if choice.last.error] == ["draining"] * 3


def test_a_failed_step_fails_every_choice_once(start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = start_engine()

    def broken(*_: object) -> list[int]:
        raise ZeroDivisionError

    monkeypatch.setattr(harness.engine._core.sampler, "choose", broken)
    reply = harness.run("Hello", n=3)
    assert [choice.finish for choice in reply.choices.values()] == [FinishReason.ERROR] * 3


@pytest.mark.parametrize("n", [0, 17])
def test_how_many_there_can_be(start_engine: StartEngine, n: int) -> None:
    with pytest.raises(BadRequestError, match="1 to 16") as caught:
        start_engine().submit("r", "Hello", n=n)
    assert caught.value.param == "n"


def test_a_long_prompt_is_taken_over_from_a_running_stream(start_engine: StartEngine) -> None:
    alone = start_engine(slots=1).run(LONG + "Two").tokens
    harness = start_engine(kv_unified=False)
    harness.submit("one", LONG + "One", max_tokens=None, ignore_eos=True)
    harness.wait_for("one", lambda reply: reply.tokens)
    two = harness.run(LONG + "Two")
    assert two.last.usage is not None
    assert two.last.usage.cached_tokens > LEAST_COPY
    assert two.tokens == alone
