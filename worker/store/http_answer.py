"""What a server's answer means for a download. Pure: responses in, facts or failures out."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

from worker.store.errors import DownloadError

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class Changed(Exception):  # noqa: N818  # not an error: start over
    """The file at the source is another one than the one that was begun."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The file as the server has it now. `validator`: its ETag, else its date; "" = it does not say."""

    total: int | None = None
    ranges: bool = False
    validator: str = ""


def facts_of(response: httpx.Response) -> Facts:
    """Read the answer to a request for the first byte. Raises DownloadError for one without the file."""
    status, headers = response.status_code, response.headers
    validator = headers.get("etag") or headers.get("last-modified", "")
    start, total = content_range(headers)
    if status == HTTPStatus.PARTIAL_CONTENT and start == 0:
        return Facts(total, ranges=total is not None, validator=validator)
    if status == HTTPStatus.OK:
        length = headers.get("content-length", "")
        return Facts(int(length) if length.isdecimal() else None, validator=validator)
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise DownloadError("the file is empty at its source")
    raise refused(response)


def start_of(response: httpx.Response, at: int, facts: Facts) -> None:
    """Check that the body of the answer begins at byte `at` of that very file.

    Raises Changed when it is another file, DownloadError when it is none.
    """
    status, headers = response.status_code, response.headers
    validator = headers.get("etag") or headers.get("last-modified", "")
    if status == HTTPStatus.PARTIAL_CONTENT:
        start, total = content_range(headers)
        if start != at:
            raise DownloadError("the server sends another range than the one it was asked for")
        if total != facts.total or validator != facts.validator:
            raise Changed
    elif status == HTTPStatus.OK:
        if facts.ranges or validator != facts.validator:
            raise Changed
    elif status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise Changed
    else:
        raise refused(response)


def headers_for(own: dict[str, str], at: int | None, end: int | None, facts: Facts | None = None) -> dict[str, str]:
    """Headers of a request for bytes `at` to `end` (exclusive); `at` None = the whole file."""
    headers = own | {"accept-encoding": "identity"}
    if at is not None:
        headers["range"] = f"bytes={at}-" + ("" if end is None else str(end - 1))
        if facts and facts.validator.startswith('"'):  # only a strong ETag may stand there
            headers["if-range"] = facts.validator
    return headers


def content_range(headers: httpx.Headers) -> tuple[int | None, int | None]:
    """First byte and size of the whole file, None for what is not said."""
    found = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if found is None:
        return None, None
    start, _, total = found.groups()
    return (None if start is None else int(start)), (None if total == "*" else int(total))


def refused(response: httpx.Response) -> DownloadError:
    status = response.status_code
    words = f"the server answers {status} {_phrase(status)}".rstrip()
    return DownloadError(words, retryable=status in _AGAIN, after_s=_retry_after(response.headers))


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds, from a number or a date (RFC 9110 §10.2.3)."""
    text = headers.get("retry-after", "")
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
