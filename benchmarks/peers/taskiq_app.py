"""taskiq on Redis streams: acknowledged when executed (the option of its worker)."""

import asyncio
import os

from taskiq_redis import RedisStreamBroker

# From the start of the stream: the jobs are there before the workers.
broker = RedisStreamBroker(url=os.environ["BENCH_BROKER"], consumer_id="0")


@broker.task
async def noop() -> None:
    pass


async def _fill(count: int) -> None:
    await broker.startup()
    for _ in range(count):
        await noop.kiq()
    await broker.shutdown()


def fill(count: int) -> None:
    asyncio.run(_fill(count))
