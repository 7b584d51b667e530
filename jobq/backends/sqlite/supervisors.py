"""Supervisors in SQLite: their rows, and the locks that their processes hold."""

from collections.abc import Collection

from jobq.backends.base import SupervisorRegistry
from jobq.backends.liveness import LivenessLocks
from jobq.backends.sqlite import rows
from jobq.backends.sqlite.connection import SqliteConnection
from jobq.backends.text import encode
from jobq.backends.wakeup import FifoListener
from jobq.models import SupervisorInfo


class SqliteSupervisors(SupervisorRegistry):
    """Supervisors that share a database, all of them on this host."""

    def __init__(self, db: SqliteConnection, liveness: LivenessLocks) -> None:
        self._db = db
        self._liveness = liveness

    def all(self) -> list[SupervisorInfo]:
        with self._db.read() as connection:
            found = connection.execute(
                f"SELECT {rows.SUPERVISOR_COLUMNS} FROM supervisors ORDER BY started_at"
            )
            return [rows.to_supervisor(row) for row in found]

    def register(self, supervisor: SupervisorInfo) -> None:
        with self._db.write() as connection:
            rows.replace(
                connection,
                "supervisors",
                rows.SUPERVISOR_COLUMNS,
                [rows.supervisor_row(supervisor)],
            )

    def unregister(self, ids: Collection[str]) -> None:
        with self._db.write() as connection:
            connection.execute(
                "DELETE FROM supervisors WHERE id IN (SELECT value FROM json_each(?))",
                (encode(list(ids)),),
            )
        self._liveness.forget(ids)

    def listen(self, owner: str) -> FifoListener:
        return self._liveness.announce(owner)

    def dead(self, owners: Collection[str]) -> set[str]:
        return self._liveness.dead(owners)
