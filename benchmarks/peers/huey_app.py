"""huey on SQLite, with the disk flushes that jobq's promises take."""

import os

from huey import SqliteHuey

huey = SqliteHuey(filename=os.environ["BENCH_BROKER"], fsync=True, results=False)


@huey.task()
def noop() -> None:
    pass


def fill(count: int) -> None:
    huey.storage.conn.execute("PRAGMA synchronous = OFF")  # only here: it is not timed
    for _ in range(count):
        noop()
