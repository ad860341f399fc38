"""Which rows of a step's logits belong to whom, and how many there may be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.engine.test_scheduler import FakeMemory
from worker.engine.api import GenerationRequest, TokenLogprob
from worker.engine.prompt_scores import PromptScores, rows_of
from worker.engine.scheduler import Scheduler
from worker.engine.sequence import Sequence

PROMPT = (4, 5, 6, 7, 8)
ANY = TokenLogprob(1, -1.0)


def sequence(name: str, length: int, *, scored: bool) -> Sequence:
    request = GenerationRequest(name, tuple(range(length)), max_tokens=2, prompt_logprobs=scored, logprobs=0)
    return Sequence(request, ctx_limit=500, now=0.0)


def test_every_position_but_the_last_tells_of_the_next_token() -> None:
    scores = PromptScores(PROMPT, 0)
    assert scores.rows(0, 3) == range(3)
    assert scores.rows(3, 2) == range(3, 4)
    assert scores.most(0, 5, rows=2) == 2
    assert scores.most(0, 9, rows=4) == 9, "what follows the prompt takes none of these rows"


def test_scores_are_those_of_the_tokens_that_came() -> None:
    scores = PromptScores(PROMPT, 1)
    scores.add(np.log(np.full((4, 10), 0.1, dtype=np.float32)))
    assert [entry.token for entry in scores.made] == [5, 6, 7, 8]
    assert [entry.logprob for entry in scores.made] == pytest.approx([np.log(0.1)] * 4)
    assert scores.done


def test_who_was_sent_back_is_not_scored_twice() -> None:
    scores = PromptScores(PROMPT, 0)
    scores.made += [ANY, ANY]
    assert scores.rows(0, 5) == range(2, 4)
    assert scores.most(0, 5, rows=1) == 3
    assert not scores.rows(0, 2)


@given(
    st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=8),
    st.integers(1, 6),
    st.integers(5, 30),
)
def test_a_step_never_has_more_rows_than_there_are(
    requests: list[tuple[int, bool]], spare: int, n_batch: int
) -> None:
    slots = 4
    scheduler = Scheduler(FakeMemory(slots), slots=slots, cells=2000, n_batch=n_batch, spare_outputs=spare)
    sequences = [sequence(f"s{i}", length, scored=scored) for i, (length, scored) in enumerate(requests)]
    for seq in sequences:
        scheduler.enqueue(seq)
    for _ in range(1000):
        if scheduler.idle:
            break
        plan = scheduler.schedule(0.0)
        sampled, rows = plan.sampled(), rows_of(plan.parts())
        assert len(rows.sampled) == len(sampled)
        taken = [at for _, _, part in rows.scored for at in range(part.start, part.stop)] + rows.sampled
        assert sorted(taken) == list(range(len(taken)))
        assert len(taken) <= slots + spare
        for _, scores, part in rows.scored:
            scores.made += [ANY] * (part.stop - part.start)
        scheduler.commit(plan)
        for seq in sampled:
            assert seq.prompt_scores is None or seq.prompt_scores.done
            seq.add(1, 0.0)
            if len(seq.tokens) >= seq.limit:
                scheduler.finish(seq)
    assert scheduler.idle, "everybody gets to the end"
