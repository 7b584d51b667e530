"""The work of `channel_download` and `playlist_download`: list, and add a job per new item."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jobq import Job, JobContext, JobFilter, JobQueue, JobSpec, JobStatus, NotFound, WrongState

from .addresses import without_query
from .arguments import VIA_TAG, ListArgs, checked_url, output_dir, since_moment
from .names import digest, shown
from .record import Known, Record

if TYPE_CHECKING:
    from .items import Item

MAX_HOST_QUEUES = 20
"""Hosts of one list that get a queue each; items of other hosts use the queue of the list's host."""

_DOWNLOAD = "video_download"
_METADATA = "metadata_extraction"
_NOT_IN_A_QUEUE_NAME = re.compile(r"[^a-z0-9._-]")
_MAX_HOST_LENGTH = 50
_OWN_FILE = "#file-"  # in the key of an item whose guid others have too


def add_downloads(args: ListArgs, job: JobContext, *, numbered: bool) -> dict[str, Any]:
    """List a URL and add a job per new item; return the counts of found, new and skipped items."""
    from .ytdlp import list_items

    directory = output_dir(args, job)
    listing = list_items(args.url, args.limit, job)
    job.log.info("%s: %d items", shown(listing.title or args.url), len(listing.items))
    chosen = _Choice(args, job, directory).of(listing.items)
    queues = _queues(args, job, chosen.new)
    specs = list(_specs(args, job, directory, chosen, queues, numbered=numbered))
    new = _insert(job, specs, chosen)
    skipped = {why: count for why, count in sorted(chosen.skipped.items()) if count}
    job.log.info("%d new; skipped: %s", new, skipped or "none")
    return {
        "title": listing.title,
        "url": args.url,
        "output_dir": str(directory),
        "found": len(listing.items),
        "new": new,
        "skipped": len(listing.items) - new,
        "skipped_because": skipped,
    }


# -- which of them -----------------------------------------------------------------------------


class _Choice:
    """The items of a list to download, and the counts of the others by reason."""

    def __init__(self, args: ListArgs, job: JobContext, directory: Path) -> None:
        self._job = job
        self.since = since_moment(args)
        self._known = Record(job.queue, directory).read()
        self._directory = directory
        self._ended = _ended_without_a_file(job.queue, args.format)
        self.new: list[tuple[int, Item]] = []  # with their positions in the list, from 1
        self.skipped: Counter[str] = Counter()

    def of(self, items: list[Item]) -> _Choice:
        """Choose from these items; return self."""
        seen: set[str] = set()
        for place, item in enumerate(_told_apart(items, self._known), 1):
            why = "twice in the list" if item.key in seen else self._against(item)
            seen.add(item.key)
            if why is None:
                self.new.append((place, item))
            else:
                self.skipped[why] += 1
        return self

    def _against(self, item: Item) -> str | None:
        """Return the reason to skip an item; None if it is to be downloaded."""
        try:
            checked_url(item.url)
        except ValueError as error:
            self._job.log.warning("refused %s: %s", shown(item.url or item.title), error)
            return "refused"
        if item.live:
            return "live"
        known = self._known.get(item.key)
        if known is not None and known.file is not None:
            return "downloaded before"
        if self._too_old(item, known):
            return "too old"
        return self._against_its_job(item)

    def _against_its_job(self, item: Item) -> str | None:
        """Return the reason to skip an item that its last job gives.

        Items that are gone or private are not requested again every night, nor are those that
        were cancelled, until their jobs are retried or pruned. A corrected URL is tried.
        """
        job = self._ended.get(_unique(item, self._directory))
        if job is None:
            return None
        if job.status is JobStatus.CANCELLED:
            return "cancelled before"
        if job.failures <= job.max_retries and job.args.get("url") == item.url:
            return "failed for good before"
        return None

    def _too_old(self, item: Item, known: Known | None) -> bool:
        """Return true if the list's date, or one recorded earlier, is before `since`."""
        dates = (item.date, known and known.date)
        return self.since is not None and any(date and date < self.since for date in dates)


def _ended_without_a_file(queue: JobQueue, wanted_format: str | None) -> dict[str, Job]:
    """Return the last failed or cancelled download of each unique key, in the same format."""
    ended = JobFilter(statuses=frozenset({JobStatus.FAILED, JobStatus.CANCELLED}), type=_DOWNLOAD)
    last: dict[str, Job] = {}
    for job in queue.each(ended):
        key = job.unique_key
        if key is None or job.args.get("format") != wanted_format:
            continue
        if key not in last or last[key].id < job.id:
            last[key] = job
    return last


def _told_apart(items: list[Item], known: Mapping[str, Known]) -> list[Item]:
    """Give items with one guid but files of their own a key each.

    The file that was downloaded by the guid keeps it as its key; if none was, the last of the list,
    which is the oldest of a feed: so a feed that repeats a guid later on keeps its first items.
    """
    urls: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for item in items:
        if item.retitled:
            urls[item.key][item.url] = None
    repeated = {key.rpartition(_OWN_FILE)[0] for key in known if _OWN_FILE in key}
    keys = {
        (key, url): own
        for key, of_key in urls.items()
        if len(of_key) > 1 or key in repeated
        for url, own in _own_keys(key, list(of_key), known).items()
    }
    return [replace(item, key=keys.get((item.key, item.url), item.key)) for item in items]


def _own_keys(key: str, urls: list[str], known: Mapping[str, Known]) -> dict[str, str]:
    """Return the keys of files that share a guid, by their URLs."""
    source = known[key].source if key in known else digest(urls[-1])
    signed = len({without_query(url) for url in urls}) == len(urls)  # the query tells nothing apart
    keys = {}
    for url in urls:
        whole = f"{key}{_OWN_FILE}{digest(url)}"
        unsigned = f"{key}{_OWN_FILE}{digest(without_query(url))}"
        keys[url] = unsigned if signed and whole not in known else whole
        if digest(url) == source:
            keys[url] = key
    return keys


# -- adding them -------------------------------------------------------------------------------


def _unique(item: Item, directory: Path, what: str = "download") -> str:
    """Return an item's unique key; each directory has its own, and gets its own file."""
    return f"{what}:{item.key}@{digest(str(directory))}"


def _specs(
    args: ListArgs,
    job: JobContext,
    directory: Path,
    chosen: _Choice,
    queues: dict[str, str],
    *,
    numbered: bool,
) -> Iterator[JobSpec]:
    inherited = _inherited(job)
    for position, item in chosen.new:
        title = shown(item.title or "")
        key = str(position)
        yield JobSpec(
            **{**inherited, "queue": queues[item.key]},
            type=_DOWNLOAD,
            args=_args(args, directory, item, position if numbered else None, chosen.since),
            key=key,
            unique=_unique(item, directory),
            name=title or None,
            added_by=job.id,
        )
        if args.metadata:
            yield JobSpec(
                **inherited,
                type=_METADATA,
                args={"of_download": True},
                after=[key],
                unique=_unique(item, directory, "metadata"),
                name=f"metadata: {title}" if title else None,
                added_by=job.id,
            )


def _args(
    args: ListArgs, directory: Path, item: Item, number: int | None, since: datetime | None
) -> dict[str, Any]:
    uncertain = item.date is None or not item.exact_date
    given = {
        "url": item.url,
        "output_dir": str(directory),
        "format": args.format,
        "title": item.title if item.retitled else None,
        "item": item.key,
        "number": number,
        "since": since.isoformat() if since is not None and uncertain else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _insert(job: JobContext, specs: list[JobSpec], chosen: _Choice) -> int:
    """Add the jobs, many in one transaction; return how many downloads are new.

    An item whose unique key is held by an unfinished job is not added again.
    """
    job.progress(0, len(specs), "adding jobs")
    added = job.queue.insert(specs)
    job.progress(len(specs), len(specs), "adding jobs")
    downloads = [one for spec, one in zip(specs, added, strict=True) if spec.type == _DOWNLOAD]
    new = sum(one.created for one in downloads)
    chosen.skipped["in the queue already"] += len(downloads) - new
    return new


def _inherited(job: JobContext) -> dict[str, Any]:
    """Return the queue and priority of the running job, and the tag that says it came over HTTP.

    Empty in a test without a stored job.
    """
    try:
        own = job.queue.get(job.id)
    except NotFound:
        return {}
    tags = {VIA_TAG: own.tags[VIA_TAG]} if VIA_TAG in own.tags else {}
    return {"queue": own.queue, "priority": own.priority, "tags": tags}


# -- queues ------------------------------------------------------------------------------------


def _queues(args: ListArgs, job: JobContext, new: list[tuple[int, Item]]) -> dict[str, str]:
    """Return the queue of each item by the item's key; create missing queues."""
    hosts = {item.key: urlsplit(item.url).hostname or "" for _, item in new}
    own = {host for host, _ in Counter(hosts.values()).most_common(MAX_HOST_QUEUES)}
    shared = urlsplit(args.url).hostname or ""
    queues = {
        key: args.download_queue or queue_of(host if host in own else shared)
        for key, host in hosts.items()
    }
    existing = {queue.name for queue in job.queue.queues()}
    for name in sorted(set(queues.values()) - existing):
        with suppress(WrongState):  # another job has created it meanwhile
            job.queue.create_queue(
                name, max_concurrent=args.per_host, description="downloads from one host"
            )
            job.log.info("created queue %s with max_concurrent %d", name, args.per_host)
    return queues


def queue_of(host: str) -> str:
    """Return the name of the queue for downloads from a host: `host-example.org`."""
    name = _NOT_IN_A_QUEUE_NAME.sub("-", host.lower().removeprefix("www."))
    if len(name) > _MAX_HOST_LENGTH:
        name = f"{name[:40]}-{hashlib.sha256(host.encode()).hexdigest()[:9]}"
    return f"host-{name}"
