"""The proxy worker dies, or the client leaves, while a request for another server is under way."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests.acceptance.site import HELLO, Site
from tests.acceptance.stack import eventually, leaving
from tests.fakes.ollama_models import EMBEDDER, THINKER
from tests.fakes.waiting import PATIENCE_S

LONG_S = 60.0  # the upstream says nothing for longer than any test waits
CHAT, EMBED = "/v1/chat/completions", "/v1/embeddings"
ASKS = {
    "whole": (CHAT, {"model": THINKER.name, "messages": HELLO}),
    "stream": (CHAT, {"model": THINKER.name, "messages": HELLO, "stream": True}),
    "embeddings": (EMBED, {"model": EMBEDDER.name, "input": "a"}),
}


@pytest.fixture(autouse=True)
def whole(site: Site) -> Iterator[None]:
    """Everything works before and after each test."""
    assert eventually(lambda: THINKER.name in site.ids(), 30)
    site.ollama.closed.clear()
    yield
    site.ollama.faults.start_s, site.ollama.faults.hang_after = 0.0, None
    back = eventually(lambda: site.chat(THINKER.name).status_code == 200, 30)
    assert back, "the proxy worker was not started anew"
    assert eventually(lambda: not site.stack.slots_busy())


def requests(site: Site) -> int:
    """How many inference requests the server got."""
    return len(site.ollama.sent("/api/chat")) + len(site.ollama.sent("/api/embed"))


def kill_proxy(site: Site) -> None:
    (row,) = site.stack.processes("proxy")
    os.kill(row["pid"], signal.SIGKILL)


@contextmanager
def under_way(site: Site, ask: str) -> Iterator[Future[httpx.Response]]:
    """The request has reached the server, which has not answered anything yet."""
    path, body = ASKS[ask]
    before, site.ollama.faults.start_s = requests(site), LONG_S
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(site.api.post, path, json=body)
        assert eventually(lambda: requests(site) > before or asked.done())
        assert not asked.done()
        yield asked


@pytest.mark.parametrize("ask", ["stream", "embeddings"])
def test_before_the_first_byte_the_request_is_served_by_the_next_proxy_worker(site: Site, ask: str) -> None:
    with under_way(site, ask) as asked:
        site.ollama.faults.start_s = 0.0
        kill_proxy(site)
        reply = asked.result(60)
    assert reply.status_code == 200, reply.text
    if ask == "embeddings":
        assert len(reply.json()["data"]) == 1
    else:
        chunks = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: {")]
        said = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
        assert "".join(said) == "Hello Ollama"
        assert reply.text.count("data: [DONE]") == 1


def test_after_the_first_byte_the_client_gets_one_honest_error(site: Site) -> None:
    site.ollama.faults.hang_after = 1
    path, body = ASKS["stream"]
    before, errors, ends = requests(site), [], 0
    with site.api.stream("POST", path, json=body) as reply:
        assert reply.status_code == 200
        lines = reply.iter_lines()
        next(lines)
        kill_proxy(site)
        for line in lines:
            ends += line == "data: [DONE]"
            errors += [line] if '"error"' in line else []
    (error,) = [json.loads(line[6:])["error"] for line in errors]
    assert error["code"] == 502, error
    assert "worker" in error["message"], error
    assert ends <= 1
    assert requests(site) == before + 1, "nobody asked again"


def test_a_client_that_leaves_before_the_first_byte_closes_the_upstream_request(site: Site) -> None:
    """The server is still thinking: no byte has come back yet."""
    before, site.ollama.faults.hang_after = requests(site), 0
    with leaving(site.stack, *ASKS["stream"]):
        assert eventually(lambda: requests(site) > before)
    assert site.ollama.closed.wait(PATIENCE_S)
    assert requests(site) == before + 1


def test_a_client_that_leaves_between_two_attempts_is_asked_for_nowhere(site: Site) -> None:
    before, site.ollama.faults.start_s = requests(site), LONG_S
    with leaving(site.stack, *ASKS["whole"]):
        assert eventually(lambda: requests(site) > before)
        kill_proxy(site)  # the next one takes its time to start
    site.ollama.faults.start_s = 0.0
    assert eventually(lambda: site.chat(THINKER.name).status_code == 200, 30)
    assert requests(site) == before + 2, "the one that was left was asked again"
