"""Models whose memory cannot drop its last tokens: a cached prefix is used whole or not at all, never wrong text."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.tiny_mamba import write_tiny_mamba
from tests.worker.engine.conftest import StartEngine
from tests.worker.engine.harness import GREEDY
from worker.engine.api import GenerationRequest
from worker.engine.model import LoadedModel

START = "The story of the sea, and of an island in the sea"


@pytest.fixture(scope="module", params=["mamba", "jamba"])
def recurrent(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedModel]:
    path = tmp_path_factory.mktemp("recurrent") / "tiny.gguf"
    with LoadedModel(write_tiny_mamba(path, hybrid=request.param == "jamba"), n_gpu_layers=0) as model:
        yield model


def test_it_is_known_not_to_rewind(recurrent: LoadedModel) -> None:
    assert not recurrent.can_rewind


@pytest.mark.parametrize(
    "then",
    [
        f"{START} there is a house",  # goes on where the cache stands, less one token
        "The story of the sand",  # a part of the cache
        START,  # the same again
        "Nothing of it",
    ],
)
def test_what_is_said_after_a_cache_is_what_is_said_without(
    recurrent: LoadedModel, start_engine: StartEngine, then: str
) -> None:
    fresh = start_engine(recurrent, slots=1).run(then, cache_prompt=False)
    cached = start_engine(recurrent, slots=1)
    cached.run(START)
    assert cached.run(then).tokens == fresh.tokens


def test_a_conversation_that_goes_on_is_not_evaluated_again(
    recurrent: LoadedModel, start_engine: StartEngine
) -> None:
    """It begins with everything that was evaluated, so nothing has to be dropped."""
    talk = start_engine(recurrent, slots=1)
    first = talk.run(START, max_tokens=12)
    turn = (*recurrent.tokenize(START), *first.tokens, *recurrent.tokenize(" and then", add_special=False))
    talk.engine.submit(GenerationRequest("second", turn, sampling=GREEDY, max_tokens=24))
    second = talk.wait("second")
    other = start_engine(recurrent, slots=1)
    other.engine.submit(GenerationRequest("fresh", turn, sampling=GREEDY, max_tokens=24, cache_prompt=False))
    assert second.tokens == other.wait("fresh").tokens
    assert second.last.usage is not None
    assert second.last.usage.cached_tokens == len(recurrent.tokenize(START)) + len(first.tokens) - 1


def test_many_at_once_on_few_slots_say_what_each_says_alone(
    recurrent: LoadedModel, start_engine: StartEngine
) -> None:
    prompts = [f"{START} number {number}" for number in range(6)]
    alone = start_engine(recurrent, slots=1)
    expected = [alone.run(prompt, cache_prompt=False).tokens for prompt in prompts]
    many = start_engine(recurrent, slots=3)
    for number, prompt in enumerate(prompts):
        many.submit(str(number), prompt)
    assert [many.wait(str(number)).tokens for number in range(6)] == expected


def test_a_request_cut_short_leaves_nothing_wrong_behind(recurrent: LoadedModel, start_engine: StartEngine) -> None:
    """A stop string ends a reply in the middle of what was evaluated."""
    harness = start_engine(recurrent, slots=1)
    whole = harness.run(START, cache_prompt=False)
    cut = harness.run(START, stop=(whole.text[4:6],))
    assert whole.text.startswith(cut.text)
    assert harness.run(START).tokens == whole.tokens
