"""Translation of yt-dlp's errors into a retry, a snooze or a permanent failure of the job."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from weakref import WeakSet

from yt_dlp.networking.exceptions import HTTPError, RequestError, TransportError
from yt_dlp.utils import ExtractorError, UnsupportedError, YoutubeDLError

from jobq import Permanent, RetryAfter, Snooze

from .content import names_media
from .names import shown
from .networking import PrivateAddressError

FIRST_SNOOZE_S = 60.0
"""Pause after "too many requests" without a Retry-After. It doubles with each attempt, up to
`MAX_GUESSED_SNOOZE_S`."""

MAX_GUESSED_SNOOZE_S = 3600.0

MAX_SNOOZE_S = 6 * 3600.0
"""Longest pause, even if the host asks for more."""

ONLY_FFMPEG = "this stream needs FFmpeg, which can't be restricted to http and https: not fetched"

_CAUSE = re.compile(r" \(caused by .*\)$")  # repeats the message
_BUG_REPORT = re.compile(r"[;.]? *please report this issue on +http.*$", re.IGNORECASE)
_MAX_RAW_LENGTH = 4000
_TRANSIENT_STATUSES = frozenset({408, 425})  # the 4xx statuses worth a retry
_BUSY_PHRASES = ("not a bot", "rate-limit", "try again later")  # said by sites instead of a 429


class DownloadFailed(Exception):
    """A failure that may pass: the attempt fails, and the job is retried after the backoff."""


@dataclass(slots=True)
class NetworkState:
    """The progress and the last error of yt-dlp's network requests."""

    transferring: bool = False  # the item is known, and its download has begun
    http_error: Any = None  # the last one
    responses: WeakSet[Any] = field(default_factory=WeakSet)


def translated(error: Exception, network: NetworkState, url: str, attempt: int) -> Exception:
    """Return the error for the job to raise instead.

    `Permanent` for an item that is gone, private or unsupported. `Snooze` for a host that gets too
    many requests, for as long as it asks. `DownloadFailed` for everything that may pass.
    """
    chain = list(_chain(error))
    for cause in chain:
        if isinstance(cause, Permanent | RetryAfter | Snooze):
            return cause
    message = plain(str(error).removeprefix("ERROR: ").strip())
    text = f"{shown(url)}: {message}"
    http = _http_error(chain, network, message)
    if http is not None:
        return _of_status(http, network, f"{shown(url)}: {shown(http)}", attempt)
    if any(phrase in message.lower() for phrase in _BUSY_PHRASES):
        return Snooze(_growing_pause(attempt), text)
    if names_media(url) and any(isinstance(cause, UnsupportedError) for cause in chain):
        return DownloadFailed(f"{shown(url)}: the host sent a page without media, not the file")
    if why := _permanent_cause(chain, message):
        return Permanent(f"{shown(url)}: {why}")
    return DownloadFailed(text) if isinstance(error, YoutubeDLError) else error


def plain(message: str) -> str:
    """Return a message of yt-dlp as one line, without its second cause and its wish for a report."""
    return shown(_CAUSE.sub("", _BUG_REPORT.sub("", shown(message, _MAX_RAW_LENGTH))))


def _permanent_cause(chain: list[BaseException], message: str) -> str | None:
    """Return why another attempt would fail in the same way, or None if it might not."""
    if any(
        isinstance(e, RequestError) and "unsupported url scheme" in str(e).lower() for e in chain
    ):
        return "it leads to a URL that is neither http nor https"
    if refused := next((e for e in chain if isinstance(e, PrivateAddressError)), None):
        return str(refused)
    if "ffmpeg could not be found" in message:
        return ONLY_FFMPEG
    if "ffmpeg is not installed" in message:  # video and audio are separate streams
        return message
    transient = any(isinstance(cause, TransportError) for cause in chain)
    if not transient and any(isinstance(e, ExtractorError) and e.expected for e in chain):
        return message
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, the nearest first; yt-dlp keeps them in several places."""
    seen: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        one = todo.pop(0)
        if not isinstance(one, BaseException) or one in seen:
            continue
        seen.append(one)
        yield one
        exc_info = getattr(one, "exc_info", None) or (None, None, None)
        todo += [exc_info[1], getattr(one, "cause", None), one.__cause__, one.__context__]


def _http_error(chain: list[BaseException], network: NetworkState, text: str) -> Any:
    """Return the HTTP error behind an error. That of a transfer is only named in its text."""
    for cause in chain:
        if isinstance(cause, HTTPError):
            return cause
    last = network.http_error
    return last if last is not None and str(last) in text else None


def _of_status(http: Any, network: NetworkState, text: str, attempt: int) -> Exception:
    status: int = http.status
    wait = retry_after(http.response.headers.get("Retry-After"))
    if status == 429 or (status == 503 and wait is not None):
        return Snooze(_growing_pause(attempt) if wait is None else wait, text)
    if 300 <= status < 400:
        where = shown(http.response.headers.get("Location"))
        return Permanent(f"{text}: it redirects to {where}, which is not fetched")
    if network.transferring or status >= 500 or status in _TRANSIENT_STATUSES:
        # The URL of the file may have expired: the next attempt gets a new one from the page.
        return DownloadFailed(text)
    return Permanent(text)


def _growing_pause(attempt: int) -> float:
    return min(FIRST_SNOOZE_S * 2.0 ** min(attempt - 1, 10), MAX_GUESSED_SNOOZE_S)


def retry_after(header: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for, as a number or as a date."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:12])
    else:
        try:
            date = parsedate_to_datetime(text)
            # The oldest date format names no zone, and means UTC.
            date = date.replace(tzinfo=date.tzinfo or UTC).astimezone(UTC)
        except (ValueError, OverflowError):
            return None
        seconds = (date - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 1.0), MAX_SNOOZE_S)
