"""What an error out of yt-dlp means for the job that it happened in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from weakref import WeakSet

from yt_dlp.networking.exceptions import HTTPError, RequestError, TransportError
from yt_dlp.utils import ExtractorError, YoutubeDLError

from jobq import Permanent, RetryAfter, Snooze
from jobq.clock import utcnow

from .names import shown

FIRST_SNOOZE = 60.0
"""Seconds that a host is left alone which said "too many requests", but not for how long. It
doubles from one try to the next, up to `LONGEST_GUESS`."""

LONGEST_GUESS = 3600.0

LONGEST_SNOOZE = 6 * 3600.0
"""Seconds. A host that asks for more is tried again after so long."""

ONLY_FFMPEG = "a stream that only FFmpeg could fetch, and it isn't held to http and https"

_CAUSE = re.compile(r" \(caused by .*\)$")  # says the same again
_PASSING = frozenset({408, 425})  # the statuses of a client's errors that may go better later
_BUSY = ("not a bot", "rate-limit", "try again later")  # what a site says instead of a 429


class DownloadFailed(Exception):
    """What may go better the next time: the try has failed, and is retried after the backoff."""


@dataclass(slots=True)
class Seen:
    """What has been seen of the network."""

    transferring: bool = False  # it knows what to download, and has begun to
    http_error: Any = None  # the last one
    responses: WeakSet[Any] = field(default_factory=WeakSet)


def translated(error: Exception, seen: Seen, url: str, attempt: int) -> Exception:
    """The error to raise in a job instead.

    What is gone, private or unsupported stays so: `Permanent`. A host that is asked too often is
    left alone for as long as it says: `Snooze`. Everything else may go better the next time.
    """
    chain = list(_chain(error))
    for cause in chain:
        if isinstance(cause, Permanent | RetryAfter | Snooze):
            return cause
    said = _CAUSE.sub("", shown(str(error).removeprefix("ERROR: ").strip()))
    text = f"{shown(url)}: {said}"
    http = _http_error(chain, seen, said)
    if http is not None:
        return _of_status(http, seen, f"{shown(url)}: {shown(http)}", attempt)
    if any(word in said.lower() for word in _BUSY):
        return Snooze(_growing(attempt), text)
    if why := _hopeless(chain, said):
        return Permanent(f"{shown(url)}: {why}")
    return DownloadFailed(text) if isinstance(error, YoutubeDLError) else error


def _hopeless(chain: list[BaseException], said: str) -> str | None:
    """Why another try would end in the same way."""
    if any(
        isinstance(e, RequestError) and "unsupported url scheme" in str(e).lower() for e in chain
    ):
        return "it leads to something other than http and https"
    if "ffmpeg could not be found" in said:
        return ONLY_FFMPEG
    if "ffmpeg is not installed" in said:  # picture and sound are apart
        return said
    passing = any(isinstance(cause, TransportError) for cause in chain)
    if not passing and any(isinstance(e, ExtractorError) and e.expected for e in chain):
        return said
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error with what led to it, the nearest first; yt-dlp has several places for that."""
    seen: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        one = todo.pop(0)
        if not isinstance(one, BaseException) or one in seen:
            continue
        seen.append(one)
        yield one
        told = getattr(one, "exc_info", None) or (None, None, None)
        todo += [told[1], getattr(one, "cause", None), one.__cause__, one.__context__]


def _http_error(chain: list[BaseException], seen: Seen, text: str) -> Any:
    """The response that an error is about. A transfer's is only named in the text."""
    for cause in chain:
        if isinstance(cause, HTTPError):
            return cause
    last = seen.http_error
    return last if last is not None and str(last) in text else None


def _of_status(http: Any, seen: Seen, text: str, attempt: int) -> Exception:
    status: int = http.status
    wait = retry_after(http.response.headers.get("Retry-After"))
    if status == 429 or (status == 503 and wait is not None):
        return Snooze(_growing(attempt) if wait is None else wait, text)
    if 300 <= status < 400:
        where = shown(http.response.headers.get("Location"))
        return Permanent(f"{text}: it redirects to {where}, which is not fetched")
    if seen.transferring or status >= 500 or status in _PASSING:
        # An address that yt-dlp found out may have run out: the next try finds a new one.
        return DownloadFailed(text)
    return Permanent(text)


def _growing(attempt: int) -> float:
    return min(FIRST_SNOOZE * 2.0 ** min(attempt - 1, 10), LONGEST_GUESS)


def retry_after(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for: it has a number of them, or a date."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:12])
    else:
        try:
            date = parsedate_to_datetime(text)
            # One that names no zone is meant in UTC: the oldest of the forms is of that kind.
            date = date.replace(tzinfo=date.tzinfo or UTC).astimezone(UTC)
        except (ValueError, OverflowError):
            return None
        seconds = (date - utcnow()).total_seconds()
    return min(max(seconds, 1.0), LONGEST_SNOOZE)
