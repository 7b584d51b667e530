"""Celery on Redis, with late acknowledgement, which is not its default."""

import os

from celery import Celery

app = Celery("celery_app", broker=os.environ["BENCH_BROKER"].replace("unix://", "redis+socket://"))
app.conf.task_acks_late = True
app.conf.task_ignore_result = True
app.conf.worker_prefetch_multiplier = 64


@app.task(name="noop")
def noop() -> None:
    pass


def fill(count: int) -> None:
    with app.producer_pool.acquire() as producer:
        for _ in range(count):
            noop.apply_async(producer=producer)
