"""Maintenance by the server: there may be pull workers alone, and no supervisor."""

import asyncio
import os
import secrets
from datetime import timedelta

from jobq.clock import steady_time
from jobq.errors import JobqError
from jobq.scheduling.maintenance import Scheduler
from jobq.system.processes import host_name
from jobq.web.problems import print_bug
from jobq.web.state import Server

TICK_INTERVAL_S = 5.0
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

    while True:
        try:
            await server.work.maintain(tick)
        except (JobqError, OSError):
            pass  # requests say so, and the next tick tries again
        except Exception as error:  # noqa: BLE001 - the next tick may do better
            print_bug(error, "maintenance")
        await asyncio.sleep(TICK_INTERVAL_S)
