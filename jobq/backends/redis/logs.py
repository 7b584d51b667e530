"""What other machines are shown of the logs of jobs: a stream for each, capped and expiring."""

from collections.abc import Sequence
from datetime import timedelta

from jobq.backends.base import Part
from jobq.backends.redis.migrate_data import RedisFilling
from jobq.backends.redis.scripts import ship_script

_AT_ONCE = 200


class RedisLogs(RedisFilling):
    """The part of the contract that is about logs."""

    ships = True

    def ship(self, parts: Sequence[Part], *, most: int, kept: timedelta) -> None:
        told = [
            each
            for part in parts
            for each in (part.job_id, part.file, part.attempt, part.offset, part.data)
        ]
        self._db.run(ship_script(), most, kept // timedelta(milliseconds=1), *told)

    def shipped(self, job_id: int, after: str | None = None) -> tuple[list[Part], str | None]:
        parts: list[Part] = []
        key = f"{self._db.url.prefix}lg:{job_id}"
        while True:
            start = "-" if after is None else f"({after}"
            found = self._db.ask("XRANGE", key, start, "+", "COUNT", _AT_ONCE)
            for entry, fields in found:
                parts.append(
                    Part(
                        job_id,
                        int(fields[b"a"]),
                        fields[b"f"].decode(),
                        int(fields[b"o"]),
                        fields[b"d"],
                    )
                )
                after = entry.decode()
            if len(found) < _AT_ONCE:
                return parts, after
