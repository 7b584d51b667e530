"""saq on Redis: a job stays in the list of active ones until it has ended."""

import asyncio
import os
from typing import Any

from redis import asyncio as redis
from saq.queue.redis import RedisQueue

queue = RedisQueue(redis.from_url(os.environ["BENCH_BROKER"]))


async def noop(context: Any) -> None:
    del context


settings = {"queue": queue, "functions": [noop], "concurrency": 2}


async def _fill(count: int) -> None:
    await queue.connect()
    for _ in range(count):
        await queue.enqueue("noop", ttl=-1)
    await queue.disconnect()


def fill(count: int) -> None:
    asyncio.run(_fill(count))
