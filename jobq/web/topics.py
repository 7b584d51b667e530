"""The topics of a stream: their names in a request, and what they stand for."""

import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from jobq.errors import UsageError
from jobq.query import parse_query
from jobq.web.changes import Changes, Item
from jobq.web.ended import EndedFeed, EndedTopics
from jobq.web.feeds import Feed
from jobq.web.follow import FILES, Followers, LogFeed
from jobq.web.problems import FieldError, Problem
from jobq.web.schemas import MAX_ID
from jobq.web.states import HeadOf

MAX_WATCHES = 16
MAX_IDS = 200
MAX_TOPIC_CHARS = 4100

_IDS = re.compile(r"[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*")
_NUMBER = re.compile(r"[0-9]{1,16}")


class Watched(NamedTuple):
    """What a stream watches: items of state, and feeds."""

    items: Sequence[Item]
    feeds: Sequence[Feed]


class Topics:
    """The topics that there are."""

    def __init__(self, changes: Changes, ended: EndedTopics, followers: Followers) -> None:
        self._changes = changes
        self._ended = ended
        self._followers = followers

    def parse(self, texts: Sequence[str], now: datetime) -> Watched:
        """Return what topics stand for; each counts once.

        Raises:
            Problem: one is wrong, and named: 422.
        """
        items: dict[Item, None] = {}
        feeds: dict[str, Feed] = {}
        for number, text in enumerate(texts):
            try:
                for each in self._parse(text, now):
                    if isinstance(each, Item):
                        items[each] = None
                    else:
                        feeds.setdefault(each.topic, each)
            except UsageError as error:
                field = FieldError(f"query:watch.{number}", str(error))
                raise Problem(422, "invalid", str(error), errors=[field]) from None
        return Watched(list(items), list(feeds.values()))

    def _parse(self, text: str, now: datetime) -> Sequence[Item | Feed]:
        if text in self._changes.documents():
            return [Item(text)]
        prefixes: dict[str, Callable[[str, datetime], Sequence[Item | Feed]]] = {
            "ids:": self._ids,
            "job/": self._job,
            "head:": self._head,
            "ended:": self._ended_jobs,
            "log/": self._log,
        }
        for prefix, parse in prefixes.items():
            if text.startswith(prefix):
                return parse(text.removeprefix(prefix), now)
        known = ", ".join([*sorted(self._changes.documents()), *prefixes])
        raise UsageError(f"{text!r:.80}: no such topic: known are {known}")

    def _ids(self, text: str, now: datetime) -> Sequence[Item]:
        if not _IDS.fullmatch(text):
            raise UsageError(f"{text!r:.80}: give ids and ranges: ids:1,2,9-14")
        ids = parse_query(f"ids:{text}", now).ids or ()
        if len(ids) > MAX_IDS:
            raise UsageError(f"{text!r:.80}: more than {MAX_IDS} ids")
        return [Item("ids", _job_id(each)) for each in ids]

    def _job(self, text: str, _: datetime) -> Sequence[Item]:
        return [Item("job", _job_id(_number(text)))]

    def _head(self, text: str, now: datetime) -> Sequence[Item]:
        query, at, above = text.rpartition("@")
        if not at:
            raise UsageError(f"{text!r:.80}: give the id above which to count: head:QUERY@ID")
        return [Item("head", HeadOf(query, _number(above), parse_query(query, now)))]

    def _ended_jobs(self, text: str, now: datetime) -> Sequence[Feed]:
        return [EndedFeed(self._ended, text, parse_query(text, now))]

    def _log(self, text: str, _: datetime) -> Sequence[Feed]:
        path, at, offset = text.partition("@")
        job_id, _slash, name = path.partition("/")
        if name not in FILES:
            raise UsageError(f"{text!r:.80}: give log/ID/{'|'.join(FILES)}[@OFFSET]")
        number = _job_id(_number(job_id))
        return [LogFeed(self._followers, number, name, _number(offset) if at else 0)]


def key_of(feed: Feed) -> str:
    """Return the name of a feed in the ids of events: short, and the same on every server."""
    return hashlib.sha256(feed.topic.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise UsageError(f"{text!r:.80} is not a number")
    return int(text)


def _job_id(number: int) -> int:
    if not 1 <= number <= MAX_ID:
        raise UsageError(f"{number} is not a job id")
    return number
