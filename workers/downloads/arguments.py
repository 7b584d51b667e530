"""Arguments that several download workers take, and how they are checked when a job is added."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field

from jobq import JobContext, Permanent, UsageError
from jobq.clock import utcnow
from jobq.models import QUEUE_NAME
from jobq.units import parse_since

SCHEMES = ("http", "https")
"""What is fetched. Nothing else is, after a redirect or in a feed neither."""

LONGEST_URL = 4096

_IN_BRACKETS = re.compile(r"\[[^\]]*\]")
_SMUGGLED = "__youtubedl_smuggle"  # how yt-dlp hands options to itself in an address


def checked_url(url: str) -> str:
    """An address that may be fetched.

    Raises:
        ValueError: it is none.
    """
    if len(url) > LONGEST_URL or not url.isprintable() or " " in url or _SMUGGLED in url:
        raise ValueError("not an address")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("not an address") from None
    if parts.scheme not in SCHEMES:
        raise ValueError("only http and https are fetched")
    if not parts.hostname:
        raise ValueError("an address without a host")
    return url


def _checked_format(text: str) -> str:
    if not text.isprintable() or text.strip() in ("", "-"):
        raise ValueError('not a format: give one of yt-dlp\'s, such as "best[height<=720]"')
    if "," in _IN_BRACKETS.sub("", text):
        raise ValueError("this asks for several files: an item is one")
    return text


def _checked_since(text: str) -> str:
    try:
        parse_since(text, utcnow())
    except UsageError as error:
        raise ValueError(str(error)) from None
    return text


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:  # ~somebody
        raise ValueError(str(error)) from None


Url = Annotated[str, AfterValidator(checked_url)]
Format = Annotated[str, AfterValidator(_checked_format)]
Since = Annotated[str, AfterValidator(_checked_since)]
Directory = Annotated[Path, AfterValidator(_absolute)]


class ItemArgs(BaseModel):
    """What both a list and one item take."""

    url: Url = Field(description="an http or https address")
    output_dir: Directory | None = Field(
        default=None,
        description="where files go; a relative path is meant from where the job is added. "
        "By default, downloads/ beside jobq.toml",
    )
    format: Format | None = Field(
        default=None, description='which quality, in yt-dlp\'s words, such as "best[height<=720]"'
    )
    since: Since | None = Field(
        default=None, description='nothing older: a date, or an age such as "30d"'
    )


class ListArgs(ItemArgs):
    """What a list takes."""

    limit: int | None = Field(
        default=None, ge=1, description="look at the first so many items of the list"
    )
    metadata: bool = Field(
        default=False, description="read each file with metadata_extraction once it is there"
    )
    download_queue: str | None = Field(
        default=None,
        pattern=f"^{QUEUE_NAME.pattern}$",
        description="the queue that the downloads go to; by default, one for each host that "
        "items are on: host-<name>",
    )
    per_host: int = Field(
        default=2, ge=1, description="downloads at once in a queue that this has to create"
    )


def since_moment(args: ItemArgs) -> datetime | None:
    """The moment that `since` means, now."""
    return None if args.since is None else parse_since(args.since, utcnow())


def output_dir(args: ItemArgs, job: JobContext) -> Path:
    """Where the files go."""
    if args.output_dir is not None:
        return args.output_dir
    config = job.queue.settings.path
    if config is None:
        raise Permanent("no jobq.toml, so no downloads/ beside it: give output_dir")
    return config.parent.absolute() / "downloads"
