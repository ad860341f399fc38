"""Counts and state of the bridge as Prometheus families. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from bridge.metrics.histogram import Histogram
from bridge.metrics.picture import Picture, Waiting
from bridge.metrics.tally import Counts, Key

K = TypeVar("K", bound=Key)


@dataclass(frozen=True, slots=True)
class Look:
    """All that one scrape needs. By the model's label: who waits, and how many workers have it, and in memory."""

    picture: Picture
    counts: Counts
    waiting: dict[str, Waiting]
    having: Counter[str]
    ready: Counter[str]
    version: str


def look(picture: Picture, counts: Counts, label_of: Callable[[str], str], version: str) -> Look:
    """Copies what will change, and asks for the labels of models. Event loop."""
    waiting: dict[str, Waiting] = {}
    for model, one in picture.waiting.items():
        label = label_of(model)
        waiting[label] = waiting.get(label, Waiting()).plus(one)
    models = [model for info, _ in picture.workers for model in info.models]
    having = _labelled(Counter(model.id for model in models), label_of)
    ready = _labelled(Counter(model.id for model in models if model.ready), label_of)
    return Look(picture, counts.copy(), waiting, having, ready, version)


def _labelled(rows: Counter[str], label_of: Callable[[str], str]) -> Counter[str]:
    out = Counter[str]()
    for model, count in rows.items():
        out[label_of(model)] += count
    return out


def counter(name: str, about: str, labels: tuple[str, ...], rows: Mapping[K, float]) -> Metric:
    """`name` without `_total`."""
    family = CounterMetricFamily(name, about, labels=labels)
    for values, value in sorted(rows.items()):
        family.add_metric(values, value)
    return family


def gauge(name: str, about: str, labels: tuple[str, ...], rows: Mapping[K, float]) -> Metric:
    family = GaugeMetricFamily(name, about, labels=labels)
    for values, value in sorted(rows.items()):
        family.add_metric(values, value)
    return family


def _histogram(name: str, about: str, rows: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(name, about, labels=("model",))
    for model, one in sorted(rows.items()):
        family.add_metric((model,), one.buckets(), one.total)
    return family


def job_families(seen: Look) -> Iterator[Metric]:
    """What this bridge did."""
    counts = seen.counts
    yield counter("pendra_jobs", "Requests that ended.", ("model", "kind", "outcome", "code"), counts.jobs)
    yield counter(
        "pendra_tokens", "Tokens of finished requests, as usage says.", ("model", "worker", "type"), counts.tokens
    )
    yield counter(
        "pendra_wasted_tokens",
        "Streamed tokens of requests that did not finish.",
        ("model", "outcome"),
        counts.wasted,
    )
    yield counter(
        "pendra_failovers",
        "Attempts that a worker lost or gave back, by cause.",
        ("model", "worker", "code"),
        counts.failovers,
    )
    yield counter("pendra_installs", "Installs and uninstalls that ended.", ("node", "code"), counts.installs)
    yield _histogram("pendra_queue_wait_seconds", "From a request's arrival to its first claim.", counts.wait)
    yield _histogram(
        "pendra_time_to_first_token_seconds", "From a stream's arrival to its first token.", counts.first_token
    )
    yield _histogram("pendra_inter_token_seconds", "Between the tokens of a stream.", counts.between_tokens)
    yield _histogram("pendra_job_seconds", "From arrival to end, of requests that finished.", counts.duration)


def bridge_families(seen: Look) -> Iterator[Metric]:
    """How this bridge is."""
    picture = seen.picture
    yield gauge(
        "pendra_bridge_info", "Which bridge this is.", ("bridge", "version"), {(picture.bridge_id, seen.version): 1}
    )
    yield gauge("pendra_bridge_linked", "1 while the API is connected.", (), {(): picture.linked})
    yield gauge("pendra_bridge_draining", "1 when it takes no new requests.", (), {(): picture.draining})
    yield gauge("pendra_redis_up", "1 while Redis answers the bridge.", (), {(): not picture.redis_down})
    yield gauge("pendra_installs_running", "Installs under way, one a host.", (), {(): picture.installs})
    yield gauge("pendra_jobs_open", "Requests by state.", ("state",), {(s,): n for s, n in picture.open.items()})
    depth = {(model,): one.jobs for model, one in seen.waiting.items()}
    yield gauge("pendra_queue_depth", "Requests that wait for a slot.", ("model",), depth)
    oldest = {(model,): one.oldest_s for model, one in seen.waiting.items()}
    yield gauge("pendra_queue_oldest_seconds", "How long the oldest of them has waited.", ("model",), oldest)
