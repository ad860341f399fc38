"""A worker dies in the middle of a reply that follows a schema, and of one of several choices."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.acceptance.stack import Stack, eventually, running
from tests.chaos.clients import Client, Watched, request
from tests.chaos.test_failover import serving, workers

NUMBERS: dict[str, Any] = {
    "type": "array",
    "items": {"type": "integer", "minimum": 100, "maximum": 999},
    "minItems": 40,
    "maxItems": 40,
}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "numbers", "strict": True, "schema": NUMBERS}}


@pytest.fixture(scope="module")
def stack(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("shapes")
    with running(Stack(home, models_dir, args=("--workers", "2", "--slots", "4")), workers=2) as up:
        yield up


def disturbed(stack: Stack, asked: dict[str, Any]) -> Watched:
    """The reply to a request whose first worker was killed."""
    assert eventually(lambda: [info.slots_busy for info in workers(stack)] == [0, 0], 60)
    client = Client(stack, asked)
    client.after(5)
    victim = serving(stack)
    os.kill(victim.pid, signal.SIGKILL)
    seen = client.result()
    assert client.status == 200
    assert seen.workers != [victim.worker_id]
    assert seen.errors == []
    return seen


def test_a_schema_is_kept_across_workers(stack: Stack) -> None:
    asked = {**request("List forty numbers.", max_tokens=300), "response_format": SCHEMA}
    undisturbed = Client(stack, asked).result()
    seen = disturbed(stack, asked)
    jsonschema.validate(json.loads(seen.text), NUMBERS)
    assert seen.text == undisturbed.text
    assert (seen.roles, seen.finishes, seen.done) == (1, ["stop"], 1)


def test_several_choices_each_go_on(stack: Stack) -> None:
    asked = {**request(max_tokens=120), "n": 2, "ignore_eos": True}
    seen = disturbed(stack, asked)
    assert (seen.roles, seen.finishes, seen.done) == (2, ["length", "length"], 1)
    assert seen.usages[-1]["completion_tokens"] == 240
