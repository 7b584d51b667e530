"""Arguments shared by the download workers, and their checks when a job is added."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field

from jobq import JobContext, Permanent, UsageError, parse_since

SCHEMES = ("http", "https")
"""The only URL schemes fetched, also after a redirect or from a feed."""

VIA_TAG = "jobq:via"
"""The tag of a job that was added over HTTP: it downloads from public addresses only."""

MAX_URL_LENGTH = 4096

QUEUE_NAME = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
"""The queue names that jobq accepts, checked here so that a wrong one fails when the job is added."""

_IN_BRACKETS = re.compile(r"\[[^\]]*\]")
_SMUGGLED = "__youtubedl_smuggle"  # yt-dlp passes options to itself inside URLs this way


def checked_url(url: str) -> str:
    """Return a URL that may be fetched.

    Raises:
        ValueError: it may not.
    """
    if len(url) > MAX_URL_LENGTH or not url.isprintable() or " " in url or _SMUGGLED in url:
        raise ValueError("not a URL: give one such as https://example.org/feed.xml")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("not a URL: give one such as https://example.org/feed.xml") from None
    if parts.scheme not in SCHEMES:
        raise ValueError("only http and https URLs are fetched")
    if not parts.hostname:
        raise ValueError("the URL has no host: give one such as https://example.org/feed.xml")
    return url


def is_url(text: str) -> bool:
    """Return true if a text is a URL that may be fetched."""
    try:
        checked_url(text)
    except ValueError:
        return False
    return True


def _checked_format(text: str) -> str:
    if not text.isprintable() or text.strip() in ("", "-"):
        raise ValueError('not a format: give one of yt-dlp\'s, such as "best[height<=720]"')
    if "," in _IN_BRACKETS.sub("", text):
        raise ValueError("this format selects several files: an item is one file")
    return text


def _checked_since(text: str) -> str:
    try:
        parse_since(text, datetime.now(UTC))
    except UsageError as error:
        raise ValueError(str(error)) from None
    return text


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:  # ~name of an unknown user
        raise ValueError(str(error)) from None


Url = Annotated[str, AfterValidator(checked_url)]
Format = Annotated[str, AfterValidator(_checked_format)]
Since = Annotated[str, AfterValidator(_checked_since)]
Directory = Annotated[Path, AfterValidator(_absolute)]


class ItemArgs(BaseModel):
    """The arguments of both a list and a single item."""

    url: Url = Field(description="http or https URL", examples=["https://example.org/video"])
    output_dir: Directory | None = Field(
        default=None,
        description="directory for the files, relative to where you add the job; "
        "by default downloads/ beside jobq.toml",
    )
    format: Format | None = Field(
        default=None, description='yt-dlp format selection, such as "best[height<=720]"'
    )
    since: Since | None = Field(
        default=None, description='skip older items: a date, or an age such as "30d"'
    )


class ListArgs(ItemArgs):
    """The arguments of a list."""

    limit: int | None = Field(
        default=None, ge=1, description="look only at the first N items of the list"
    )
    metadata: bool = Field(
        default=False, description="run metadata_extraction on each downloaded file"
    )
    download_queue: str | None = Field(
        default=None,
        pattern=f"^{QUEUE_NAME}$",
        description="queue of the downloads; by default one per host, named host-<host>",
    )
    per_host: int = Field(
        default=2, ge=1, description="max_concurrent of a queue that this job has to create"
    )


def since_moment(args: ItemArgs) -> datetime | None:
    """Return the moment that `since` means now."""
    return None if args.since is None else parse_since(args.since, datetime.now(UTC))


def output_dir(args: ItemArgs, job: JobContext) -> Path:
    """Return the directory for the files.

    Raises:
        Permanent: none is given, and there is no jobq.toml to put one beside.
    """
    if args.output_dir is not None:
        return args.output_dir
    config = job.queue.settings.path
    if config is None:
        raise Permanent("give output_dir: there is no jobq.toml to put downloads/ beside")
    return config.parent.absolute() / "downloads"
