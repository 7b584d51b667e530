"""Supervisors on Redis: records on the server, and locks on each host."""

from collections.abc import Collection

from jobq.backends.base import SupervisorRegistry
from jobq.backends.liveness import LivenessLocks
from jobq.backends.redis import rows
from jobq.backends.redis.connection import RedisConnection
from jobq.backends.redis.listener import RedisListener
from jobq.models import SupervisorInfo


class RedisSupervisors(SupervisorRegistry):
    """Supervisors on any number of hosts; dead ones are detected on this host alone."""

    def __init__(self, db: RedisConnection, liveness: LivenessLocks) -> None:
        self._db = db
        self._liveness = liveness
        self._listeners: list[RedisListener] = []

    def all(self) -> list[SupervisorInfo]:
        records, heartbeats = map(rows.pairs, self._db.read("supervisors"))
        found = [rows.to_supervisor(name, records[name], heartbeats[name]) for name in records]
        return sorted(found, key=lambda info: (info.started_at, info.id))

    def register(self, supervisor: SupervisorInfo) -> None:
        record, now = rows.from_supervisor(supervisor), rows.to_micros(supervisor.heartbeat_at)
        self._db.write("register", id=supervisor.id, record=record, now=now)

    def unregister(self, ids: Collection[str]) -> None:
        self._db.write("unregister", ids=list(ids))
        self._liveness.forget(ids)

    def listen(self, owner: str) -> RedisListener:
        lock = self._liveness.hold(owner)
        listener = self._db.listener(lock)
        self._listeners = [each for each in self._listeners if not each.closed] + [listener]
        return listener

    def renew_listeners(self) -> None:
        """Subscribe again where a connection was lost."""
        for listener in self._listeners:
            listener.renew()

    def dead(self, owners: Collection[str]) -> set[str]:
        return self._liveness.dead(owners)
