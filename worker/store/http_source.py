"""Fetching a file over HTTP into a part: several ranges at once, each in as many tries as it takes.

Range requests (RFC 9110 §14), with `If-Range` when the server gave a strong ETag, so that a file that changed
meanwhile starts anew instead of being glued together from two. The calling thread watches; one thread a span pulls.
"""

from __future__ import annotations

import netrc
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import httpx

from worker.store import reach, spans
from worker.store.errors import DownloadError
from worker.store.http_answer import Changed, Facts, facts_of, headers_for, start_of
from worker.store.partial import Closed, Partial
from worker.store.planner import Stage
from worker.store.run import Run
from worker.store.sources import public

_CONNECT_S = 10.0
_TICK_S = 0.2
_PERSIST_S = 2.0
_JOIN_S = 1.0
_RESTARTS = 3
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Remote:
    """A file on a server. `headers` and `url` may hold credentials; `name` is the URL for people."""

    url: str = field(repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    secure: bool = True
    mirror: int = 0
    netrc: bool = False
    own: bool = False
    """The operator of this host named the server (`HF_ENDPOINT`), so it may be anywhere."""

    @property
    def name(self) -> str:
        return public(self.url)


def fetch(remote: Remote, part: Partial, run: Run, check_room: Callable[[int], None]) -> None:
    """Fill `part`. Blocking. `check_room` is asked once the size is known.

    Raises DownloadError when the server refuses or the network stays away, InstallCancelled, DiskFullError, OSError.
    """
    timeout = httpx.Timeout(run.transfer.stall_s, connect=_CONNECT_S)
    auth = _netrc() if remote.netrc else None
    options = reach.client_options() if run.transfer.public_only and not remote.own else {}
    with httpx.Client(follow_redirects=True, timeout=timeout, auth=auth, **options) as client:
        for _ in range(_RESTARTS):
            pull = Pull(client, remote, part, run)
            try:
                pull.prepare(check_room)
                pull.run()
            except Changed:
                part.restart()
            else:
                return
    raise DownloadError(f"{remote.name}: the file keeps changing at its source", retryable=True)


class Pull:
    """One go at a file. `prepare` and `run` on the calling thread."""

    def __init__(self, client: httpx.Client, remote: Remote, part: Partial, run: Run) -> None:
        self._client = client
        self._remote = remote
        self._part = part
        self._run = run
        self._facts = Facts()
        self._halt = threading.Event()
        self._wake = threading.Event()
        self._error: BaseException | None = None

    # ------------------------------------------------------------ calling thread

    def prepare(self, check_room: Callable[[int], None]) -> None:
        """Ask what the file is, and go on with what is there or start anew. Raises DownloadError, Changed."""
        self._run.progress(Stage.DOWNLOADING, self._part.have, self._part.size)
        facts = self._facts = self._run.insist(lambda: self._named(self._probe))
        part, remote = self._part, self._remote
        if facts.total is not None and part.size is not None and facts.total != part.size and part.mark.sha256:
            raise DownloadError(
                f"{remote.name}: the server has {facts.total} bytes of a file that has {part.size}", retryable=False
            )
        if not self._continues(facts):
            transfer = self._run.transfer
            count = transfer.connections if facts.ranges else 1
            plan = spans.plan(facts.total, count, transfer.split_bytes)
            part.begin(plan, size=facts.total, validator=facts.validator, mirror=remote.mirror)
        elif part.mark.mirror != remote.mirror:
            part.relabel(validator=facts.validator, mirror=remote.mirror)
        if part.size is not None:
            check_room(max(part.size - part.have, 0))

    def run(self) -> None:
        """Pull all spans. Raises what stopped the first one, or InstallCancelled."""
        todo = [index for index, span in enumerate(self._part.spans) if not span.whole]
        threads = [threading.Thread(target=self._pull, args=(index,), daemon=True) for index in todo]
        for thread in threads:
            thread.start()
        try:
            self._watch(threads)
        finally:
            self._halt.set()
            for thread in threads:
                thread.join(_JOIN_S)
            self._part.persist()
        self._run.progress(Stage.DOWNLOADING, self._part.have, self._part.size)

    def _watch(self, threads: list[threading.Thread]) -> None:
        persisted = time.monotonic()
        while any(thread.is_alive() for thread in threads):
            self._wake.wait(_TICK_S)
            self._wake.clear()
            self._run.check()
            self._raise()
            self._run.progress(Stage.DOWNLOADING, self._part.have, self._part.size)
            if time.monotonic() - persisted > _PERSIST_S:
                self._part.persist()
                persisted = time.monotonic()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _continues(self, facts: Facts) -> bool:
        """Whether what is there belongs to the file as the server has it now."""
        mark = self._part.mark
        if not mark.spans or not facts.ranges or facts.total != mark.size:
            return False
        if mark.mirror != self._remote.mirror:
            return bool(mark.sha256)  # else nobody could tell if the two are the same file
        return facts.validator == mark.validator

    def _probe(self) -> Facts:
        with self._client.stream(
            "GET", self._remote.url, headers=headers_for(self._remote.headers, 0, 1)
        ) as response:
            self._check_way(response)
            return facts_of(response)

    # ------------------------------------------------------------- a span's thread

    def _pull(self, index: int) -> None:
        try:
            self._pull_all(index)
        except Closed:
            pass
        except BaseException as exc:  # noqa: BLE001  # the calling thread raises it
            if not self._halt.is_set():
                self._error = self._error or exc
        finally:
            self._wake.set()

    def _pull_all(self, index: int) -> None:
        failures, best = 0, self._part.spans[index].have
        while not self._part.spans[index].whole and not self._halt.is_set():
            if not self._facts.ranges:
                self._part.rewind(index)
            try:
                self._named(lambda: self._exchange(index))
            except DownloadError as exc:
                have = self._part.spans[index].have
                failures = 1 if have > best else failures + 1  # a try that got further does not count
                best = max(best, have)
                if not exc.retryable or failures >= self._run.transfer.tries:
                    raise
                self._halt.wait(self._run.transfer.pause(failures, exc.after_s))

    def _exchange(self, index: int) -> None:
        span = self._part.spans[index]
        end = span.end if self._facts.ranges else None
        at = span.at if self._facts.ranges else None
        headers = headers_for(self._remote.headers, at, end, self._facts)
        with self._client.stream("GET", self._remote.url, headers=headers) as response:
            self._check_way(response)
            start_of(response, at or 0, self._facts)
            for block in response.iter_raw():  # as it comes: a block size would hold back what a cut then loses
                if self._halt.is_set():
                    return
                self._part.write(index, block)
                if self._part.spans[index].whole:
                    break
                if wait := self._run.transfer.throttle.take(len(block)):
                    self._halt.wait(wait)
        self._ended(index)

    def _ended(self, index: int) -> None:
        """The body is over: is the span?"""
        span = self._part.spans[index]
        if span.end is None:
            self._part.finish(index)
        elif not span.whole:
            raise DownloadError(f"{span.at} of {span.end} bytes came", retryable=True)

    # ----------------------------------------------------------------- both

    def _check_way(self, response: httpx.Response) -> None:
        hops = [*response.history, response]
        if self._remote.secure and any(hop.url.scheme != "https" for hop in hops):
            raise DownloadError("the server sends on to plain http")

    def _named(self, step: Callable[[], T]) -> T:
        """Failures as DownloadErrors that name the source, without what the library says (it may quote the URL)."""
        try:
            return step()
        except httpx.HTTPError as exc:
            again = isinstance(exc, httpx.TransportError) and not isinstance(exc, httpx.UnsupportedProtocol)
            words = "nothing came for a while" if isinstance(exc, httpx.ReadTimeout) else type(exc).__name__
            raise DownloadError(f"{self._remote.name}: {words}", retryable=again) from None
        except httpx.InvalidURL:
            raise DownloadError(f"{self._remote.name}: the server sends on to something that is no URL") from None
        except DownloadError as exc:
            words = f"{self._remote.name}: {exc.message}"
            raise DownloadError(words, retryable=exc.retryable, after_s=exc.after_s) from None


def _netrc() -> httpx.Auth | None:
    """The user's own ~/.netrc (or $NETRC), the place for passwords of mirrors."""
    try:
        return httpx.NetRCAuth()
    except (OSError, netrc.NetrcParseError):
        return None
