"""Exactly once: whatever pub/sub drops, repeats or reorders, the reader gets the text once and in order."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.effects import Acquire, CancelOnWorker, Effect, Heal
from tasks.contract import Event, Resume
from tasks.events import Envelope
from tasks.sealing import FleetKey, Sealer
from tests.bridge.builders import Driven, batch, chunk, claimed, finished, job, worker


def test_a_repeated_event_is_taken_once() -> None:
    driven = Driven(worker())
    driven.start()
    driven.events(chunk(1, "a"))
    driven.events(chunk(1, "a"))
    driven.events(chunk(1, "a"), chunk(2, "b"), chunk(2, "b"))
    assert driven.text() == "ab"


def test_a_hole_asks_for_the_stream_once_and_delivers_nothing_beyond_it() -> None:
    driven = Driven(worker())
    driven.start()
    assert driven.events(chunk(2, "b")) == [Heal(full=False)]
    assert driven.events(chunk(3, "c")) == []
    assert driven.text() == ""
    driven.session.heal_started()
    driven.events(chunk(1, "a"), chunk(2, "b"), chunk(3, "c"))
    assert driven.do(driven.session.healed(driven.now, full=False)) == []
    assert driven.text() == "abc"


def test_what_the_recent_part_lacks_is_searched_in_the_whole_stream() -> None:
    driven = Driven(worker())
    driven.start()
    driven.events(chunk(2, "b"))
    driven.session.heal_started()
    assert driven.do(driven.session.healed(driven.now, full=False)) == [Heal(full=True)]


def test_events_that_came_during_a_heal_are_no_gap() -> None:
    driven = Driven(worker())
    driven.start()
    driven.events(chunk(2, "b"))
    driven.session.heal_started()
    driven.events(chunk(4, "d"))  # after the page that was read
    driven.events(chunk(1, "a"), chunk(2, "b"))
    assert driven.do(driven.session.healed(driven.now, full=True)) == [Heal(full=False)]
    driven.session.heal_started()
    driven.events(chunk(3, "c"), chunk(4, "d"))
    assert driven.do(driven.session.healed(driven.now, full=False)) == []
    assert driven.text() == "abcd"


def test_a_gap_before_any_text_starts_the_job_anew() -> None:
    driven = Driven(worker())
    driven.start()
    driven.events(chunk(2))
    driven.session.heal_started()
    effects = driven.do(driven.session.healed(driven.now, full=True))
    assert CancelOnWorker("w1", "j1", 0) in effects
    (again,) = [e for e in effects if isinstance(e, Acquire)]
    assert (again.job.attempt, again.job.first_seq) == (1, 1)


def test_a_gap_inside_a_stream_is_made_anew_from_the_last_delivered_token() -> None:
    driven = Driven(worker())
    driven.start()
    driven.events(chunk(1, "a", tokens=(7,)))
    driven.events(chunk(3, "c"))
    driven.session.heal_started()
    effects = driven.do(driven.session.healed(driven.now, full=True))
    (again,) = [e for e in effects if isinstance(e, Acquire)]
    assert (again.job.first_seq, again.job.resume) == (2, Resume(token_ids=(7,)))
    driven.take(again)
    driven.events(claimed(seq=2, attempt=1), chunk(3, "b", attempt=1), finished(4, attempt=1))
    assert driven.text() == "ab"
    assert driven.of("error") == []


def test_an_event_under_a_foreign_key_ends_the_job() -> None:
    driven = Driven(worker())
    driven.start()
    foreign = batch(chunk(1), sealer=Sealer(FleetKey.generate()))
    driven.do(driven.session.events(foreign, driven.now))
    assert driven.of("error")[0]["code"] == "seal_broken"


def test_delivered_token_ids_stay_with_the_job() -> None:
    driven = Driven(worker())
    driven.start()
    driven.events(chunk(1), chunk(2))
    driven.events(chunk(2), chunk(3))
    record = driven.session._ledger.jobs.open["j1"]
    assert record.tokens == [1, 2, 3]


@dataclass
class Channel:
    """Pub/sub as bad as can be, beside a replay stream that has everything."""

    driven: Driven
    stream: list[list[Envelope]] = field(default_factory=list)
    wanted: list[Heal] = field(default_factory=list)

    def publish(self, events: list[Event], fate: str) -> None:
        envelopes = batch(*events)
        self.stream.append(envelopes)
        if fate == "reordered":
            envelopes = envelopes[::-1]
        for _ in range({"lost": 0, "twice": 2}.get(fate, 1)):
            self.feed(envelopes)

    def feed(self, envelopes: list[Envelope]) -> None:
        self.note(self.driven.do(self.driven.session.events(envelopes, self.driven.now)))

    def note(self, effects: list[Effect]) -> None:
        self.wanted += [effect for effect in effects if isinstance(effect, Heal)]

    def heal(self, late: int) -> None:
        """Read the stream for what was asked; its last `late` batches come live while it is read."""
        for _ in range(5):
            if not self.wanted:
                return
            request = self.wanted.pop(0)
            self.driven.session.heal_started()
            known = self.stream[: len(self.stream) - late]
            for envelopes in known:
                self.feed(envelopes)
            for envelopes in self.stream[len(known) :]:
                self.feed(envelopes)
            late = 0
            self.note(self.driven.do(self.driven.session.healed(self.driven.now, full=request.full)))
        raise AssertionError("healing does not end")


FATES = st.sampled_from(["fine", "lost", "twice", "reordered"])
STEPS = st.lists(st.tuples(FATES, st.integers(1, 4), st.booleans(), st.integers(0, 2)), max_size=25)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_the_text_arrives_exactly_once(steps: list[tuple[str, int, bool, int]]) -> None:
    driven = Driven(worker())
    for effect in driven.send(job()):
        driven.take(effect)
    channel, seq = Channel(driven), 1
    channel.publish([claimed()], "fine")
    for fate, count, heals, late in steps:
        channel.publish([chunk(seq + n, f"<{seq + n}>") for n in range(count)], fate)
        seq += count
        if heals:
            channel.heal(late)
    channel.publish([finished(seq)], "fine")
    channel.heal(0)
    assert driven.text() == "".join(f"<{n}>" for n in range(1, seq))
    assert driven.seqs() == list(range(seq + 1))
    assert len(driven.of("result")) == 1
