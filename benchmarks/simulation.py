"""A queueing estimate for more than one host: slots that share one writer.

A closed system with one server. Each slot runs a job (exponentially distributed, with a given mean),
and then needs the writer for a fixed time, in which its end is recorded and the next job claimed.
While the writer is busy, others wait in line, first come, first served, like at the write lock.
Nothing is grouped, as if every slot were a supervisor of its own: a supervisor with many slots groups
its writes, and does better. Adds, retries and failures are left out.
"""

import heapq
import random

_SEED = 7
_JOBS_PER_SLOT = 200


def share_in_use(slots: int, job_seconds: float, write_seconds: float) -> float:
    """Return the share of slots that run a job; the others wait for the writer."""
    chance = random.Random(_SEED)

    def started(at: float) -> tuple[float, float]:
        length = chance.expovariate(1 / job_seconds)
        return at + length, length

    running = [started(0.0) for _ in range(slots)]
    heapq.heapify(running)
    free_at = worked = 0.0
    for _ in range(_JOBS_PER_SLOT * slots):
        end, length = heapq.heappop(running)
        worked += length
        free_at = max(free_at, end) + write_seconds
        heapq.heappush(running, started(free_at))
    return worked / slots / free_at


def curve(job_seconds: float, write_seconds: float) -> list[tuple[float, float]]:
    """Return the percentage of slots in use, by number of slots."""
    sizes = (1, 4, 16, 64, 256, 1_024)
    return [(size, 100 * share_in_use(size, job_seconds, write_seconds)) for size in sizes]
