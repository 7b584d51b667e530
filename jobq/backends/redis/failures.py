"""Failed jobs of a Redis store by signature: see failures.lua."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from jobq.backends.failures import HOURS, SAMPLE_SIZE, FailureStore
from jobq.backends.messages import FailureFigures
from jobq.backends.redis import rows
from jobq.backends.redis.connection import RedisConnection
from jobq.backends.redis.rows import given, to_micros, to_moment
from jobq.models import Job, Outcome

GROUPS_PER_SCRIPT = 100
"""Groups whose hours one script counts: each takes some thirty commands."""

_HOUR_US = 3_600_000_000


class RedisFailures(FailureStore):
    """Failed jobs by signature, from an index that has them grouped."""

    def __init__(self, db: RedisConnection) -> None:
        self._db = db

    def groups(
        self,
        now: datetime,
        *,
        since: datetime | None = None,
        limit: int | None = None,
        prefix: str = "",
    ) -> list[FailureFigures]:
        sizes = {
            name.decode(): int(size)
            for name, size in rows.pairs(self._db.read("signatures")).items()
            if name.startswith(prefix.encode())
        }
        found: list[FailureFigures] = []
        for batch in rows.batches(sorted(sizes, key=lambda name: (-sizes[name], name))):
            found += self._read(batch, now, since=since)
            # What follows is smaller than all that may still be in the answer.
            if limit is not None and sum(each.size > sizes[batch[-1]] for each in found) >= limit:
                break
        found.sort(key=lambda each: (-each.size, -each.last.timestamp(), each.signature))
        names = [each.signature for each in found[:limit]]
        return [
            group
            for start in range(0, len(names), GROUPS_PER_SCRIPT)
            for group in self._read(names[start : start + GROUPS_PER_SCRIPT], now, hours=HOURS)
        ]

    def _read(
        self,
        signatures: Sequence[str],
        now: datetime,
        *,
        since: datetime | None = None,
        hours: int = 0,
    ) -> Iterator[FailureFigures]:
        """Yield the groups that are still there; without ``hours``, only their size and times."""
        wanted = given(since=since and to_micros(since))
        found = self._db.read(
            "failures",
            signatures=signatures,
            now=to_micros(now),
            hours=hours,
            hour=_HOUR_US,
            sample=SAMPLE_SIZE,
            **wanted,
        )
        for signature, row in zip(signatures, found, strict=True):
            if row:
                yield _to_figures(signature, *row)

    def unsigned(self, *, after: int = 0, limit: int) -> list[tuple[Job, Outcome | None]]:
        found: list[tuple[Job, Outcome | None]] = []
        last: int | None = after
        while last is not None and len(found) < limit:
            read, unsigned = self._db.read(
                "unsigned", after=last, limit=limit - len(found), batch_size=rows.BATCH_SIZE
            )
            found += [(rows.to_job(job), rows.to_outcome(end)) for job, end in unsigned]
            last = None if read is None else int(read)
        return found

    def sign(self, signatures: Mapping[int, str]) -> int:
        stored = 0
        for batch in rows.batches(signatures.items()):
            pairs = [(str(job_id), signature) for job_id, signature in batch]
            stored += int(self._db.write("sign", signatures=pairs))
        return stored


def _to_figures(
    signature: str, count: Any, first: bytes, last: bytes, sample: Sequence[bytes], hours: Any
) -> FailureFigures:
    return FailureFigures(
        signature,
        int(count),
        to_moment(int(first)),
        to_moment(int(last)),
        tuple(int(job_id) for job_id in reversed(sample)),
        tuple(map(int, hours)),
    )
