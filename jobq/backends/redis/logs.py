"""Output of jobs for other hosts: a stream for each job, capped and expiring."""

from collections.abc import Sequence
from datetime import timedelta

from jobq.backends.log_relay import LogRelay
from jobq.backends.messages import LogChunk
from jobq.backends.redis.connection import RedisConnection
from jobq.backends.redis.scripts import ship_script

_ENTRIES_PER_READ = 200


class RedisLogs(LogRelay):
    """The streams to which supervisors ship output, and from which other hosts read it."""

    ships = True

    def __init__(self, db: RedisConnection) -> None:
        self._db = db

    def ship(self, chunks: Sequence[LogChunk], *, max_bytes: int, ttl: timedelta) -> None:
        arguments = [
            each
            for chunk in chunks
            for each in (chunk.job_id, chunk.file, chunk.attempt, chunk.offset, chunk.data)
        ]
        self._db.run(ship_script(), max_bytes, ttl // timedelta(milliseconds=1), *arguments)

    def shipped(self, job_id: int, after: str | None = None) -> tuple[list[LogChunk], str | None]:
        chunks: list[LogChunk] = []
        key = f"{self._db.url.prefix}lg:{job_id}"
        while True:
            start = "-" if after is None else f"({after}"
            found = self._db.ask("XRANGE", key, start, "+", "COUNT", _ENTRIES_PER_READ)
            for entry, fields in found:
                chunks.append(
                    LogChunk(
                        job_id,
                        int(fields[b"a"]),
                        fields[b"f"].decode(),
                        int(fields[b"o"]),
                        fields[b"d"],
                    )
                )
                after = entry.decode()
            if len(found) < _ENTRIES_PER_READ:
                return chunks, after
