"""Maintenance by the server: there may be pull workers alone, and no supervisor."""

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from jobq.clock import steady_time
from jobq.errors import JobqError
from jobq.scheduling.maintenance import Scheduler
from jobq.system.processes import host_name
from jobq.web.problems import print_bug
from jobq.web.state import Server

TICK_INTERVAL_S = 5.0
COUNT_INTERVAL_S = 5.0
PAST_PAUSE_FACTOR = 5
"""Pause after counting a part of the past, in multiples of the time that it took."""

CLOSE_TIMEOUT_S = 0.5
"""Time to finish what was begun, when the server ends."""

EXPIRED_INTERVAL = timedelta(hours=1)
"""Time between two looks for tokens and codes to delete."""


async def maintain(server: Server) -> None:
    """Recover jobs, settle dependents, fire schedules and delete old tokens, until cancelled."""
    owner = f"{host_name()}:{os.getpid()}:{secrets.token_hex(4)}"
    scheduler = Scheduler(server.queue, owner)
    swept_at = server.started_at - EXPIRED_INTERVAL
    # While no server ran, pull workers could not renew their leases.
    renewed_by = steady_time() + server.settings.lease

    def tick() -> None:
        nonlocal swept_at
        now = server.queue.now()
        scheduler.tick(now, ())
        if steady_time() >= renewed_by:
            scheduler.rescue_unrenewed(now)
        if abs(now - swept_at) >= EXPIRED_INTERVAL:
            swept_at = now
            server.tokens.forget_expired(now)

    try:
        while True:
            await _attempt(server, tick, "maintenance")
            await asyncio.sleep(TICK_INTERVAL_S)
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await _attempt(server, scheduler.close, "maintenance")


async def count_ends(server: Server) -> None:
    """Count the jobs that end, and those that ended in the last day, until cancelled."""
    is_past_left = True

    def count() -> None:
        server.figures.update(server.queue.now())

    def count_past() -> None:
        nonlocal is_past_left
        is_past_left = server.figures.count_past(server.queue.now())

    while True:
        await _attempt(server, count, "statistics")
        await asyncio.sleep(COUNT_INTERVAL_S)
        until = time.monotonic() + COUNT_INTERVAL_S
        while is_past_left and time.monotonic() < until:
            started = time.monotonic()
            if not await _attempt(server, count_past, "statistics"):
                break
            await asyncio.sleep(PAST_PAUSE_FACTOR * (time.monotonic() - started))


async def _attempt(server: Server, call: Callable[[], None], what: str) -> bool:
    """Run a part of the maintenance; return whether it succeeded."""
    try:
        await server.work.maintain(call)
    except (JobqError, OSError):
        return False  # requests say so, and the next time tries again
    except Exception as error:  # noqa: BLE001 - the next time may do better
        print_bug(error, what)
        return False
    return True
