"""dramatiq on Redis: acknowledged after the work.

It has its default middleware; with BENCH_BARE, its workers have none.
"""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

broker = RedisBroker(
    url=os.environ["BENCH_BROKER"], middleware=[] if "BENCH_BARE" in os.environ else None
)
dramatiq.set_broker(broker)


@dramatiq.actor
def noop() -> None:
    pass


def fill(count: int) -> None:
    for _ in range(count):
        noop.send()
