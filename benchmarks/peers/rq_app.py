"""rq on Redis: its worker forks for each job."""

import os

from redis import Redis
from rq import Queue


def noop() -> None:
    pass


def fill(count: int) -> None:
    queue = Queue(connection=Redis.from_url(os.environ["BENCH_BROKER"]))
    data = [Queue.prepare_data("rq_app.noop", result_ttl=0) for _ in range(count)]
    queue.enqueue_many(data)
