"""dramatiq on Redis, without the middleware that it has by itself."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

broker = RedisBroker(url=os.environ["BENCH_BROKER"], middleware=[])
dramatiq.set_broker(broker)


@dramatiq.actor
def noop() -> None:
    pass


def fill(count: int) -> None:
    for _ in range(count):
        noop.send()
