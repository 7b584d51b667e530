"""Statistics of a Redis store: how jobs ended, and which pending jobs come before which."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from jobq.backends.base import StatsReader
from jobq.backends.redis import rows
from jobq.backends.redis.connection import RedisConnection
from jobq.backends.redis.rows import to_micros, to_moment
from jobq.models import Ended, Job, Queue


class RedisStats(StatsReader):
    """Statistics, read from the indexes and from counters of the server."""

    def __init__(self, db: RedisConnection) -> None:
        self._db = db

    def ended(self, since: datetime, *, limit: int) -> list[Ended]:
        found: list[Ended] = []
        for each in self._each_ended(since, min(limit, rows.BATCH_SIZE)):
            found.append(each)
            if len(found) == limit:
                break
        return found

    def ended_counts(self, since: datetime) -> dict[tuple[str, str], tuple[int, int]]:
        counts: Counter[tuple[str, str, bool]] = Counter()
        for each in self._each_ended(since, rows.BATCH_SIZE):
            counts[each.type, each.queue, each.completed] += 1
        kinds = {(job_type, queue) for job_type, queue, _ in counts}
        return {kind: (counts[*kind, True], counts[*kind, False]) for kind in kinds}

    def _each_ended(self, since: datetime, batch_size: int) -> Iterator[Ended]:
        """Yield the jobs that completed or failed since then, the latest first, read in batches."""
        start, seen = 0, batch_size
        while seen == batch_size and batch_size:
            wanted: dict[str, Any] = {"since": to_micros(since), "from": start}
            seen, found = self._db.read("ended", batch_size=batch_size, **wanted)
            yield from map(_to_ended, found)
            start += seen

    def totals(self) -> dict[str, int]:
        names = ("added", "completed", "failed", "recovered")
        numbers = self._db.ask("HMGET", self._db.url.prefix + "meta", *names)
        return {name: int(number or 0) for name, number in zip(names, numbers, strict=True)}

    def ahead(self, job: Job, now: datetime) -> int:
        number = self._db.read(
            "ahead", id=str(job.id), queue=job.queue, priority=job.priority, now=to_micros(now)
        )
        return int(number)

    def next_start(self, queue: Queue, now: datetime) -> datetime | None:
        if queue.rate is None:
            return None
        at = self._db.read(
            "next_start",
            queue=queue.name,
            rate=queue.rate.count,
            span=round(queue.rate.seconds * 1e6),
            now=to_micros(now),
        )
        return None if at is None else to_moment(int(at))

    def key_holder(self, key: str) -> int | None:
        holder = self._db.read("key_holder", key=key)
        return None if holder is None else int(holder)


def _to_ended(row: Sequence[Any]) -> Ended:
    status, head, started_at, finished_at = row
    _, queue, created, job_type = head.split(b"|", 3)
    waited, ran = int(started_at) - int(created), int(finished_at) - int(started_at)
    return Ended(job_type.decode(), queue.decode(), status == b"completed", waited / 1e6, ran / 1e6)
