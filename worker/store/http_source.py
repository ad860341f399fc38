"""Fetching a file over HTTP into a part, in as many tries as it takes, each going on where the last one stopped.

Range requests (RFC 9110 §14), with `If-Range` when the server gave a strong ETag, so that a file that changed
meanwhile starts anew instead of being glued together from two.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import httpx

from worker.store.errors import DownloadError
from worker.store.partial import Partial
from worker.store.sources import HttpSource, public

TRIES = 5
_BACKOFF_S = (0.5, 8.0)
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")

Report = Callable[[int, int | None], None]
"""Called with bytes done and bytes in all, None when the server does not say."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a response means for the part: `start` is where its body belongs, `total` the size of the whole file."""

    start: int
    total: int | None
    complete: bool = False


def fetch(source: HttpSource, part: Partial, report: Report, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Fill `part`. Blocking. A try that got something does not count against the `TRIES`.

    Raises DownloadError when the server refuses or the network stays away, OSError when the disk does not take it.
    """
    failures = 0
    with httpx.Client(follow_redirects=True, timeout=_TIMEOUT) as client:
        while True:
            before = part.size
            try:
                return _one_try(client, source, part, report)
            except DownloadError as exc:
                failures = 1 if part.size > before else failures + 1
                if not exc.retryable or failures >= TRIES:
                    raise
            sleep(min(_BACKOFF_S[0] * 2 ** (failures - 1), _BACKOFF_S[1]))


def meaning(status: int, headers: httpx.Headers, have: int) -> Answer:
    """Read a response to a request from byte `have` on. Pure. Raises DownloadError for one without the file."""
    start, total = _content_range(headers)
    if status == HTTPStatus.PARTIAL_CONTENT and start == have:
        return Answer(have, total)
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
        return Answer(have, total, complete=True) if total == have else Answer(0, None, complete=True)
    if status == HTTPStatus.OK:
        length = headers.get("content-length", "")
        return Answer(0, int(length) if length.isdecimal() else None)
    raise DownloadError(f"the server answers {status} {_phrase(status)}", retryable=status in _AGAIN)


def _one_try(client: httpx.Client, source: HttpSource, part: Partial, report: Report) -> None:
    """One request, with its failures as DownloadErrors that name the source."""
    try:
        _exchange(client, source, part, report)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        again = isinstance(exc, httpx.TransportError)
        raise DownloadError(f"{public(source.url)}: {type(exc).__name__}", retryable=again) from exc
    except DownloadError as exc:
        raise DownloadError(f"{public(source.url)}: {exc.message}", retryable=exc.retryable) from None


def _exchange(client: httpx.Client, source: HttpSource, part: Partial, report: Report) -> None:
    with client.stream("GET", source.url, headers=_headers(part)) as response:
        if source.secure and response.url.scheme != "https":
            raise DownloadError("the server sends on to plain http")
        answer = meaning(response.status_code, response.headers, part.size)
        if answer.start == 0:
            part.restart(_strong(response.headers.get("etag", "")))
        if not answer.complete:
            _receive(response, part, report, answer.total)
        elif part.size == 0:
            raise DownloadError("the file has become shorter at its source", retryable=True)


def _receive(response: httpx.Response, part: Partial, report: Report, total: int | None) -> None:
    for block in response.iter_raw():  # as it comes: a block size would hold back what a cut then loses
        part.write(block)
        report(part.size, total)
    if total is not None and part.size != total:
        raise DownloadError(f"{part.size} of {total} bytes came", retryable=True)


def _headers(part: Partial) -> dict[str, str]:
    headers = {"accept-encoding": "identity"}
    if part.size:
        headers["range"] = f"bytes={part.size}-"
        if part.etag:
            headers["if-range"] = part.etag
    return headers


def _content_range(headers: httpx.Headers) -> tuple[int | None, int | None]:
    found = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if found is None:
        return None, None
    start, total = found.groups()
    return (None if start is None else int(start)), (None if total == "*" else int(total))


def _strong(etag: str) -> str:
    """Only a strong ETag may stand in `If-Range`."""
    return "" if etag.startswith("W/") else etag


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
