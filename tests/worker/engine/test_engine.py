"""The whole engine on the tiny float32 model."""

from __future__ import annotations

import time

import pytest

from tasks.errors import BadRequestError, UnavailableError
from tests.fakes import tiny_llama
from tests.worker.engine.conftest import StartEngine
from tests.worker.engine.harness import GREEDY, Reply
from worker.engine.api import FinishReason, GenerationRequest, SamplingParams
from worker.engine.model import LoadedModel
from worker.engine.runner import NoRoomError

PROMPTS = [f"Prompt {i}: the cat and the dog in the house of {i * 37}" for i in range(20)]


def text_of(model: LoadedModel, tokens: list[int]) -> str:
    return b"".join(model.piece(token) for token in tokens).decode("utf-8", "replace")


def one_at_a_time(start_engine: StartEngine, prompts: list[str], **fields: object) -> list[Reply]:
    alone = start_engine(slots=1)
    return [alone.run(prompt, cache_prompt=False, **fields) for prompt in prompts]


def test_one_request(start_engine: StartEngine, tiny: LoadedModel) -> None:
    reply = start_engine().run("Hello", max_tokens=10)
    assert reply.finish is FinishReason.LENGTH
    assert len(reply.tokens) == 10
    assert reply.text == text_of(tiny, reply.tokens)
    usage, timing = reply.last.usage, reply.last.timing
    assert usage is not None
    assert timing is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (6, 10, 0)
    assert timing.ttft_ms is not None
    assert timing.ttft_ms > 0
    assert timing.tokens_per_second is not None
    assert timing.worker_queue_wait_ms is not None


@pytest.mark.parametrize("unified", [True, False])
def test_twenty_requests_on_four_slots_say_what_each_says_alone(start_engine: StartEngine, unified: bool) -> None:  # noqa: FBT001  # a parameter
    alone = one_at_a_time(start_engine, PROMPTS)
    many = start_engine(kv_unified=unified)
    for number, prompt in enumerate(PROMPTS):
        many.submit(str(number), prompt)
    replies = [many.wait(str(number)) for number in range(len(PROMPTS))]
    assert [reply.tokens for reply in replies] == [reply.tokens for reply in alone]
    assert {reply.finish for reply in replies} == {FinishReason.LENGTH}
    stats = many.engine.stats()
    assert (stats.slots_busy, stats.waiting, stats.completion_tokens) == (0, 0, 20 * 24)


def test_outputs_of_one_step_come_as_one_list(start_engine: StartEngine) -> None:
    harness = start_engine(ctx_per_seq=2000)
    for number in range(4):
        harness.submit(str(number), PROMPTS[number], max_tokens=None)
    harness.wait_for("0", lambda _: any(len(outputs) == 4 for outputs in harness.steps))


def test_too_few_cells_mean_recomputing_not_other_words(start_engine: StartEngine) -> None:
    alone = one_at_a_time(start_engine, PROMPTS[:4], max_tokens=100)
    tight = start_engine(slots=4, ctx_per_seq=256, n_ctx=256)
    for number, prompt in enumerate(PROMPTS[:4]):
        tight.submit(str(number), prompt, max_tokens=100)
    replies = [tight.wait(str(number)) for number in range(4)]
    assert [reply.tokens for reply in replies] == [reply.tokens for reply in alone]
    assert {reply.finish for reply in replies} == {FinishReason.LENGTH}


def test_a_long_prompt_in_chunks_says_what_it_says_at_once(start_engine: StartEngine) -> None:
    prompt = "The story of the sea. " * 9
    whole = start_engine(slots=1).run(prompt)
    chunked = start_engine(slots=1, n_batch=32, n_ubatch=16).run(prompt)
    assert chunked.tokens == whole.tokens


def test_the_same_prompt_again_is_cached_and_says_the_same(start_engine: StartEngine) -> None:
    harness = start_engine()
    first, second = (harness.run(PROMPTS[0]) for _ in range(2))
    assert first.last.usage is not None
    assert second.last.usage is not None
    assert first.last.usage.cached_tokens == 0
    assert second.last.usage.cached_tokens == second.last.usage.prompt_tokens - 1
    assert second.text == first.text


def test_a_second_turn_reuses_the_first(start_engine: StartEngine) -> None:
    harness = start_engine()
    first = harness.run(PROMPTS[0])
    turn = PROMPTS[0] + first.text + " and then?"
    cached, fresh = harness.run(turn), harness.run(turn, cache_prompt=False)
    assert cached.last.usage is not None
    assert fresh.last.usage is not None
    assert cached.last.usage.cached_tokens > len(harness.model.tokenize(PROMPTS[0]))
    assert fresh.last.usage.cached_tokens == 0
    assert cached.text == fresh.text


def test_a_running_prompt_is_shared_in_one_pool(start_engine: StartEngine) -> None:
    alone = one_at_a_time(start_engine, ["The sea and the ship. One", "The sea and the ship. Two"])
    harness = start_engine(kv_unified=True)
    under_way = harness.stop_at("one", lambda reply: reply.tokens)
    harness.submit("one", "The sea and the ship. One", max_tokens=150)
    with under_way:
        harness.submit("two", "The sea and the ship. Two")
    two = harness.wait("two")
    one = harness.wait("one")
    assert two.last.usage is not None
    assert two.last.usage.cached_tokens > 10
    assert two.tokens == alone[1].tokens
    assert one.tokens[:24] == alone[0].tokens


def test_seeded_sampling_is_repeatable_in_any_company(start_engine: StartEngine) -> None:
    sampling = SamplingParams(temperature=1.0, seed=42)
    harness = start_engine()
    alone = harness.run(PROMPTS[0], sampling=sampling)
    for number in range(6):
        harness.submit(str(number), PROMPTS[number], sampling=SamplingParams(temperature=1.0, seed=number))
    harness.submit("again", PROMPTS[0], sampling=sampling)
    assert harness.wait("again").tokens == alone.tokens


# ------------------------------------------------------------ ends


def test_a_stop_string_over_several_tokens_is_never_shown(start_engine: StartEngine) -> None:
    harness = start_engine()
    free = harness.run(PROMPTS[1], max_tokens=40)
    stop = free.text[10:16]
    shown = free.text[: free.text.index(stop)]
    reply = harness.run(PROMPTS[1], max_tokens=40, stop=(stop, "never said"))
    assert (reply.finish, reply.text) == (FinishReason.STOP, shown)


def test_an_end_token_stops_and_shows_nothing(start_engine: StartEngine) -> None:
    ending = SamplingParams(temperature=0, logit_bias=((tiny_llama.IM_END, 100.0),))
    reply = start_engine().run("Hello", sampling=ending)
    assert (reply.finish, reply.text, reply.tokens) == (FinishReason.STOP, "", [tiny_llama.IM_END])


@pytest.mark.parametrize(
    ("fields", "made"), [({"min_tokens": 7}, 8), ({"ignore_eos": True}, 12), ({"min_tokens": 50}, 12)]
)
def test_min_tokens_and_ignore_eos(start_engine: StartEngine, fields: dict[str, object], made: int) -> None:
    ending = SamplingParams(temperature=0, logit_bias=((tiny_llama.IM_END, 100.0),))
    reply = start_engine().run("Hello", sampling=ending, max_tokens=12, **fields)
    assert len(reply.tokens) == made
    assert tiny_llama.IM_END not in reply.tokens[: min(made, 7)]


def test_without_max_tokens_the_context_is_the_limit(start_engine: StartEngine) -> None:
    reply = start_engine(ctx_per_seq=64).run("Hello", max_tokens=None)
    assert reply.finish is FinishReason.LENGTH
    assert reply.last.usage is not None
    assert reply.last.usage.prompt_tokens + reply.last.usage.completion_tokens == 64


def test_max_tokens_0_answers_nothing(start_engine: StartEngine) -> None:
    reply = start_engine().run("Hello", max_tokens=0)
    assert (reply.finish, reply.tokens) == (FinishReason.LENGTH, [])


# ------------------------------------------------------------ refusals


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(start_engine: StartEngine) -> None:
    harness = start_engine(ctx_per_seq=64)
    with pytest.raises(BadRequestError, match=r"101 tokens.* 64") as caught:
        harness.submit("long", "x" * 100)
    assert caught.value.code == "context_length_exceeded"
    assert harness.run("short enough").finish is FinishReason.LENGTH


@pytest.mark.parametrize("prompt", [(), (-1,), (374,)])
def test_prompts_that_are_none(start_engine: StartEngine, prompt: tuple[int, ...]) -> None:
    with pytest.raises(BadRequestError):
        start_engine().engine.submit(GenerationRequest("r", prompt))


def test_an_id_runs_once(start_engine: StartEngine) -> None:
    harness = start_engine()
    harness.submit("same", "Hello", max_tokens=200)
    with pytest.raises(BadRequestError, match="running already"):
        harness.submit("same", "Hello")
    harness.wait("same")


# ------------------------------------------------------------ cancel, resume, failure, close


def test_cancel_while_decoding_frees_the_slot(start_engine: StartEngine) -> None:
    harness = start_engine(slots=1, ctx_per_seq=2000)
    under_way = harness.stop_at("endless", lambda reply: len(reply.tokens) > 3)
    harness.submit("endless", "Hello", max_tokens=None)
    harness.submit("next", "Hello")
    with under_way:
        harness.engine.cancel("endless")
    reply = harness.wait("endless")
    assert reply.finish is FinishReason.CANCELLED
    assert reply.last.usage is not None
    assert reply.last.usage.completion_tokens == len(reply.tokens)
    assert harness.wait("next").finish is FinishReason.LENGTH


def test_cancel_while_waiting_never_runs(start_engine: StartEngine) -> None:
    harness = start_engine(slots=1, ctx_per_seq=2000)
    under_way = harness.stop_at("running", lambda reply: reply.tokens)
    harness.submit("running", "Hello", max_tokens=None)
    with under_way:
        harness.submit("waiting", "Hello")
        harness.engine.cancel("waiting")
    reply = harness.wait("waiting")
    assert (reply.finish, reply.tokens) == (FinishReason.CANCELLED, [])
    at = next(i for i, step in enumerate(harness.steps) if any(one.request_id == "waiting" for one in step))
    earlier = [one for step in harness.steps[:at] for one in step]
    assert [one.finish_reason for one in earlier if one.finish_reason] == [], "the other one still ran"


def test_cancel_during_prefill(start_engine: StartEngine) -> None:
    harness = start_engine(slots=1, ctx_per_seq=2000, n_batch=2, n_ubatch=2)
    harness.submit("long", "x" * 1500)
    harness.engine.cancel("long")
    assert harness.wait("long").finish is FinishReason.CANCELLED
    assert harness.run("Hello").finish is FinishReason.LENGTH


def test_cancelling_nobody_is_fine(start_engine: StartEngine) -> None:
    harness = start_engine()
    harness.engine.cancel("nobody")
    assert harness.run("Hello").finish is FinishReason.LENGTH


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(temperature=1.0, seed=5, repeat_penalty=1.1)])
@pytest.mark.parametrize("at", [1, 7, 23])
def test_resume_continues_exactly(start_engine: StartEngine, sampling: SamplingParams, at: int) -> None:
    whole = start_engine(slots=1).run(PROMPTS[2], sampling=sampling)
    resumed = start_engine(slots=1).run(PROMPTS[2], sampling=sampling, resume=tuple(whole.tokens[:at]))
    assert resumed.tokens == whole.tokens[at:]
    assert whole.text.endswith(resumed.text)
    assert resumed.last.usage == whole.last.usage


def test_resume_in_the_middle_of_a_character_and_of_a_stop_string(start_engine: StartEngine) -> None:
    snowman = [tiny_llama.FIRST_BYTE + byte for byte in "☃".encode()]
    force = SamplingParams(temperature=0, logit_bias=((snowman[2], 100.0),))
    harness = start_engine()
    reply = harness.run("Hello", sampling=force, resume=tuple(snowman[:2]), max_tokens=3)
    assert reply.text == "☃"
    stopped = harness.run("Hello", sampling=force, resume=tuple(snowman[:2]), max_tokens=9, stop=("☃",))
    assert (stopped.finish, stopped.text) == (FinishReason.STOP, "")


def test_a_resumed_reply_that_was_complete_ends_at_once(start_engine: StartEngine) -> None:
    whole = start_engine().run("Hello")
    reply = start_engine().run("Hello", resume=tuple(whole.tokens))
    assert (reply.finish, reply.tokens, reply.text) == (FinishReason.LENGTH, [], "")
    assert reply.last.usage == whole.last.usage


def test_an_exception_in_a_step_fails_who_ran_and_nobody_else(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = start_engine(slots=1)
    alone = harness.run("Hello")
    choose = harness.engine._core.sampler.choose

    def broken(*_: object) -> list[int]:
        monkeypatch.setattr(harness.engine._core.sampler, "choose", choose)
        raise ZeroDivisionError

    monkeypatch.setattr(harness.engine._core.sampler, "choose", broken)
    harness.submit("victim", "Hello")
    harness.submit("next", "Hello")
    victim = harness.wait("victim")
    assert victim.finish is FinishReason.ERROR
    assert victim.error is not None
    assert victim.error.code == "worker_error"
    assert harness.wait("next").tokens == alone.tokens


def test_a_full_cache_that_nobody_expected_preempts(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = one_at_a_time(start_engine, PROMPTS[:3])
    harness = start_engine()
    run = harness.engine._core.runner.run
    refusals = [5, 6, 12]

    def full(plan: object) -> object:
        refusals[:] = [left - 1 for left in refusals if left > 0]
        if 0 in refusals:
            raise NoRoomError
        return run(plan)

    monkeypatch.setattr(harness.engine._core.runner, "run", full)
    begun = harness.stop_at("0", lambda reply: reply.tokens)
    harness.submit("0", PROMPTS[0])
    with begun:  # the others are there before the cache is full: one alone has nobody to make room
        harness.submit("1", PROMPTS[1])
        harness.submit("2", PROMPTS[2])
    assert [harness.wait(str(n)).tokens for n in range(3)] == [reply.tokens for reply in alone]


def test_a_listener_that_raises_does_not_stop_the_engine(
    start_engine: StartEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = start_engine()
    listener, calls = harness.engine._on_step, []

    def broken(outputs: object) -> None:
        calls.append(outputs)
        if len(calls) == 1:
            raise ValueError
        listener(outputs)

    monkeypatch.setattr(harness.engine, "_on_step", broken)
    assert harness.run("Hello").finish is FinishReason.LENGTH


def test_close_ends_what_runs_and_refuses_what_comes(start_engine: StartEngine) -> None:
    harness = start_engine(slots=1, ctx_per_seq=2000)
    harness.submit("running", "Hello", max_tokens=None)
    harness.submit("waiting", "Hello")
    harness.wait_for("running", lambda reply: reply.tokens)
    harness.close()
    for name in ("running", "waiting"):
        error = harness.wait(name).error
        assert error is not None
        assert error.code == "draining"
    with pytest.raises(UnavailableError):
        harness.submit("late", "Hello")
    harness.close()


def _cpu_seconds() -> float:
    before = time.process_time()
    time.sleep(0.3)  # the thing measured is a stretch of time
    return time.process_time() - before


def test_an_idle_engine_uses_no_cpu(start_engine: StartEngine) -> None:
    harness = start_engine()
    harness.run("Hello")
    assert min(_cpu_seconds() for _ in range(3)) < 0.1  # other threads of this process may have had something to do


def test_every_decode_moves_the_step_counter(start_engine: StartEngine) -> None:
    harness = start_engine(n_batch=8, n_ubatch=8)
    harness.run("x" * 79, max_tokens=5)  # 80 tokens in 10 chunks, then 4 decodes
    harness.run("y", max_tokens=0)
    assert harness.engine.stats().steps == 14
