"""Fetching over HTTP: resuming, retrying, several ranges at once, and servers that lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.worker.store.models import GGUF, SHA256, FileServer, serving
from worker.store import http_source, spans
from worker.store.errors import DiskFullError, DownloadError
from worker.store.http_answer import Changed, Facts, facts_of, headers_for, start_of
from worker.store.http_source import Remote
from worker.store.journal import FileMark
from worker.store.partial import Partial
from worker.store.run import Run, Stop, Stopped, Transfer
from worker.store.spans import Span
from worker.store.throttle import Throttle

QUICK = Transfer(connections=1, tries=4, backoff_s=(0.001, 0.004), stall_s=0.3)
FOUR = Transfer(connections=4, split_bytes=1000, tries=4, backoff_s=(0.001, 0.004), stall_s=0.3)


class Fetcher:
    """Fetches into one part, and remembers its mark as a journal does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mark = FileMark(name="tiny.gguf", sha256=SHA256)
        self.seen: list[int] = []
        self.stop: Callable[[], Stop | None] = lambda: None
        self.room: Callable[[int], None] = lambda _needed: None

    def __call__(self, server: FileServer, transfer: Transfer = QUICK, **more: object) -> str:
        run = Run(lambda _stage, done, _total: self.seen.append(done), self.stop, transfer)
        remote = Remote(server.url, secure=False, **more)  # type: ignore[arg-type]
        with Partial(self.path, self.mark, self._save) as part:
            http_source.fetch(remote, part, run, self.room)
            return part.sha256(lambda _: None)

    def _save(self, mark: FileMark) -> None:
        self.mark = mark


@pytest.fixture
def fetch(tmp_path: Path) -> Fetcher:
    return Fetcher(tmp_path / "tiny.gguf.part")


def test_a_download_comes_whole(fetch: Fetcher):
    with serving(FileServer()) as server:
        assert fetch(server) == SHA256
    assert fetch.path.read_bytes() == GGUF
    assert server.requests[0]["accept-encoding"] == "identity"
    assert fetch.seen[-1] == len(GGUF)


def test_several_ranges_at_once(fetch: Fetcher):
    with serving(FileServer()) as server:
        assert fetch(server, FOUR) == SHA256
    firsts = sorted(int(request["range"][6:].partition("-")[0]) for request in server.requests)
    assert firsts == [len(GGUF) * part // 4 for part in range(4)]


def test_a_server_without_ranges_gets_one_connection(fetch: Fetcher):
    with serving(FileServer(ranges=False)) as server:
        assert fetch(server, FOUR) == SHA256
    assert len(server.requests) == 1


def test_a_cut_connection_is_continued_where_it_broke(fetch: Fetcher):
    with serving(FileServer(cuts=[100_000, 50_000])) as server:
        assert fetch(server) == SHA256
    _, *rest = server.requests
    assert [request["if-range"] for request in rest] == ['"v1"'] * 2
    assert [request["range"] for request in rest] == [f"bytes={at}-{len(GGUF) - 1}" for at in (100_000, 150_000)]


def test_cut_ranges_are_each_continued(fetch: Fetcher):
    with serving(FileServer(cuts=[10_000, 20_000, 30_000, 5_000])) as server:
        assert fetch(server, FOUR) == SHA256
    assert len(server.requests) == 8


def test_a_later_process_continues_what_an_earlier_one_left(fetch: Fetcher):
    with serving(FileServer(cuts=[100_000, *[0] * QUICK.tries])) as server:
        with pytest.raises(DownloadError, match=r"tiny\.gguf: RemoteProtocolError|bytes came"):
            fetch(server)
        server.requests.clear()
        server.cuts.clear()
        assert fetch(server) == SHA256
    assert server.requests[0]["range"].startswith("bytes=100000-")


def test_a_part_that_was_cut_off_behind_our_back_starts_anew(fetch: Fetcher):
    with serving(FileServer(cuts=[100_000, *[0] * QUICK.tries])) as server:
        with pytest.raises(DownloadError):
            fetch(server)
        server.cuts.clear()
        fetch.path.write_bytes(b"short")
        assert fetch(server) == SHA256


@pytest.mark.parametrize("obeys", [True, False])
def test_a_file_that_changes_meanwhile_starts_anew(fetch: Fetcher, *, obeys: bool):
    def change(server: FileServer) -> None:
        if len(server.requests) == 2:
            server.content, server.etag = GGUF, '"v2"'

    with serving(FileServer(content=b"x" * len(GGUF), cuts=[100_000], before=change, if_range=obeys)) as server:
        assert fetch(server) == SHA256
    assert fetch.mark.validator == '"v2"'


def test_a_file_that_changed_between_two_processes_starts_anew(fetch: Fetcher):
    with serving(FileServer(content=b"x" * len(GGUF), cuts=[100_000, *[0] * QUICK.tries])) as server:
        with pytest.raises(DownloadError):
            fetch(server)
        server.content, server.etag = GGUF, '"v2"'
        server.cuts.clear()
        assert fetch(server) == SHA256


def test_a_file_that_never_stays_the_same_is_given_up(fetch: Fetcher):
    def change(server: FileServer) -> None:
        server.etag = f'"{len(server.requests)}"'

    with serving(FileServer(before=change)) as server, pytest.raises(DownloadError, match="keeps changing"):
        fetch(server)


def test_a_server_that_stalls_is_asked_again(fetch: Fetcher):
    with serving(FileServer(stalls=[50_000])) as server:
        assert fetch(server) == SHA256
    assert server.requests[-1]["range"].startswith("bytes=")
    assert len(server.requests) == 2


def test_a_server_that_only_stalls_is_given_up(fetch: Fetcher):
    quick = Transfer(connections=1, tries=2, backoff_s=(0.001, 0.001), stall_s=0.1)
    with (
        serving(FileServer(stalls=[0] * 9)) as server,
        pytest.raises(DownloadError, match="nothing came for a while") as caught,
    ):
        fetch(server, quick)
    assert caught.value.retryable


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_claims_more_than_it_has(fetch: Fetcher, *, ranges: bool):
    with serving(FileServer(claimed=len(GGUF) + 1000, ranges=ranges)) as server, pytest.raises(DownloadError):
        fetch(server)


def test_a_server_that_has_another_size_than_is_known(fetch: Fetcher):
    fetch.mark = FileMark(name="tiny.gguf", sha256=SHA256, size=12)
    with (
        serving(FileServer()) as server,
        pytest.raises(DownloadError, match=f"{len(GGUF)} bytes of a file that has 12"),
    ):
        fetch(server)
    assert server.requests == []


def test_a_corrupted_byte_shows_in_the_hash(fetch: Fetcher):
    with serving(FileServer(content=GGUF[:-1] + b"!")) as server:
        assert fetch(server) != SHA256


def test_redirects_are_followed_and_keep_out_the_authorization(fetch: Fetcher):
    with serving(FileServer()) as other, serving(FileServer()) as server:
        server.redirects["/dir/tiny.gguf"] = f"{other.base}/elsewhere?signature=x"
        assert fetch(server, headers={"authorization": "Bearer t0ken"}) == SHA256
    assert server.requests[0]["authorization"] == "Bearer t0ken"
    assert "authorization" not in other.requests[0]


def test_a_secure_source_does_not_send_on_to_plain_http(fetch: Fetcher):
    with serving(FileServer()) as server, Partial(fetch.path, fetch.mark, lambda _: None) as part:
        remote = Remote(server.url, secure=True)
        with pytest.raises(DownloadError, match="sends on to plain http"):
            http_source.fetch(remote, part, Run(lambda *_: None, transfer=QUICK), lambda _: None)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final_and_named_without_secrets(fetch: Fetcher, status: int):
    with serving(FileServer(statuses=[status] * 9)) as server:
        base, server.base = server.base, server.base.replace("http://", "http://user:hunter2@")
        with pytest.raises(DownloadError, match=f"answers {status}") as caught:
            fetch(server)
        assert base in caught.value.message
    assert not caught.value.retryable
    assert "hunter2" not in caught.value.message
    assert len(server.statuses) == 8


def test_a_busy_server_is_asked_again_and_then_given_up(fetch: Fetcher):
    with serving(FileServer(statuses=[503, 429], more={"Retry-After": "0"})) as server:
        assert fetch(server) == SHA256
    with serving(FileServer(statuses=[503] * 9)) as server, pytest.raises(DownloadError, match="503") as caught:
        fetch(server)
    assert caught.value.retryable
    assert len(server.statuses) == 9 - QUICK.tries


def test_nobody_there(fetch: Fetcher):
    with serving(FileServer()) as server:
        pass
    with pytest.raises(DownloadError, match="ConnectError"):
        fetch(server)


def test_a_stop_is_heard_at_once_and_keeps_what_came(fetch: Fetcher):
    fetch.stop = lambda: Stop.KEEP if fetch.seen[-1:] > [20_000] else None
    with serving(FileServer(stalls=[50_000])) as server, pytest.raises(Stopped):
        fetch(server, Transfer(connections=1, stall_s=20))
    assert spans.total(fetch.mark.pieces) == 50_000


def test_room_is_asked_for_once_the_size_is_known(fetch: Fetcher):
    asked: list[int] = []

    def full(needed: int) -> None:
        asked.append(needed)
        raise DiskFullError("full")

    fetch.room = full
    with serving(FileServer()) as server, pytest.raises(DiskFullError):
        fetch(server)
    assert asked == [len(GGUF)]
    assert server.requests == []


def test_a_mirror_goes_on_with_a_file_whose_hash_is_known(fetch: Fetcher):
    with serving(FileServer(cuts=[100_000, *[0] * QUICK.tries])) as server, pytest.raises(DownloadError):
        fetch(server)
    with serving(FileServer(etag='"other"')) as mirror:
        assert fetch(mirror, mirror=1) == SHA256
    assert mirror.requests[0]["range"].startswith("bytes=100000-")
    assert fetch.mark.mirror == 1


def test_a_limit_slows_down(fetch: Fetcher):
    slept = Throttle(1_000_000, clock=lambda: 100.0)
    assert slept.take(100_000) == 0.0  # within the burst
    assert slept.take(250_000) == pytest.approx(0.1)
    assert Throttle(None).take(10**9) == 0.0
    began = __import__("time").monotonic()
    with serving(FileServer()) as server:
        fetch(server, Transfer(throttle=Throttle(500_000)))
    assert __import__("time").monotonic() - began > 0.2  # 256 kB at 500 kB/s, less the burst


def answer(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("response", "facts"),
    [
        (answer(206, content_range="bytes 0-0/10", etag='"e"'), Facts(10, ranges=True, validator='"e"')),
        (answer(206, content_range="bytes 0-0/*"), Facts(None)),
        (answer(200, content_length="10", last_modified="yesterday"), Facts(10, validator="yesterday")),
        (answer(200, content_length="lots"), Facts(None)),
    ],
)
def test_what_a_first_answer_says(response: httpx.Response, facts: Facts):
    assert facts_of(response) == facts


def test_when_to_come_back():
    with pytest.raises(DownloadError) as caught:
        facts_of(answer(429, retry_after="7"))
    assert (caught.value.retryable, caught.value.after_s) == (True, 7.0)
    assert Transfer().pause(1, 7.0) == 7.0
    assert Transfer().pause(1, 9999.0) == 120.0
    assert [Transfer().pause(number) for number in (1, 2, 3, 9)] == [0.5, 1.0, 2.0, 15.0]


def test_what_is_another_file():
    facts = Facts(10, ranges=True, validator='"e"')
    start_of(answer(206, content_range="bytes 5-9/10", etag='"e"'), 5, facts)
    for other in (
        answer(206, content_range="bytes 5-10/11", etag='"e"'),
        answer(206, content_range="bytes 5-9/10", etag='"f"'),
        answer(200, etag='"e"'),
        answer(416, content_range="bytes */3"),
    ):
        with pytest.raises(Changed):
            start_of(other, 5, facts)
    with pytest.raises(DownloadError, match="another range"):
        start_of(answer(206, content_range="bytes 7-9/10", etag='"e"'), 5, facts)


def test_only_a_strong_etag_stands_in_if_range():
    assert headers_for({}, 5, 10, Facts(10, ranges=True, validator='"e"'))["if-range"] == '"e"'
    assert "if-range" not in headers_for({}, 5, 10, Facts(10, ranges=True, validator='W/"e"'))
    assert headers_for({}, 5, 10)["range"] == "bytes=5-9"


def test_spans():
    assert spans.plan(None, 4, 10) == (Span(0, None),)
    assert spans.plan(100, 4, 30) == (Span(0, 33), Span(33, 66), Span(66, 100))
    assert spans.plan(5, 4, 30) == (Span(0, 5),)
    assert spans.front((Span(0, 10, 10), Span(10, 20, 5), Span(20, 30, 9))) == 15
    assert spans.total((Span(0, 10, 10), Span(10, 20, 5))) == 15
