"""Staging: valid rows, kept on disk until every row of a file has been checked.

A file may be larger than memory, and its rows may wait for each other in any order. The staging
file has no name: no other process can open it, and it is gone when this one ends, however it ends.
"""

import marshal
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from jobq.errors import DiskFullError
from jobq.logs.directory import STAGING_PREFIX
from jobq.system.permissions import repair

_CACHE_KIB = 32_768
_MAX_KEYS_NAMED = 8  # of a circle


@contextmanager
def room_for_rows() -> Iterator[None]:
    """Report a full disk as such.

    Raises:
        DiskFullError: in place of SQLite's error.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        if not error.sqlite_errorname.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            raise
        raise DiskFullError(
            "the disk of the log directory is full: free some disk space and try again; "
            "nothing was stored"
        ) from error


BATCH_SIZE = 1000
"""Most rows added in one transaction: few enough that other writers hardly wait."""

BATCH_BYTES = 1024 * 1024
"""Most bytes of them, unless a single row is larger."""


class StagedRow(NamedTuple):
    """A valid row, as plain values."""

    place: int
    line: int
    values: tuple[Any, ...]


class StagingTable:
    """Rows by their place in the file, with their keys and the keys that they wait for.

    Rows are kept in blocks, as they come. Where some wait for others, each has to be found by
    itself: then they are moved to a table.
    """

    def __init__(self, folder: Path) -> None:
        descriptor, name = tempfile.mkstemp(prefix=STAGING_PREFIX, dir=folder)
        repair(descriptor)
        os.close(descriptor)
        self._db = sqlite3.connect(name, isolation_level=None)
        self._in_blocks = True
        self._in_order = True
        try:
            self._db.executescript(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = OFF; "
                f"PRAGMA synchronous = OFF; PRAGMA cache_size = -{_CACHE_KIB}; "
                "CREATE TABLE blocks (place INTEGER PRIMARY KEY, rows INTEGER, data BLOB); "
                "CREATE TABLE rows (place INTEGER PRIMARY KEY, line INTEGER, data BLOB); "
                "CREATE TABLE keys (key TEXT PRIMARY KEY, place INTEGER, line INTEGER) "
                "WITHOUT ROWID; "
                "CREATE TABLE refs (child INTEGER, key TEXT, condition TEXT, "
                "PRIMARY KEY (child, key)) WITHOUT ROWID; "
                "CREATE TABLE ids (key TEXT PRIMARY KEY) WITHOUT ROWID; "
                "CREATE TABLE places (seq INTEGER PRIMARY KEY, place INTEGER UNIQUE); "
                "BEGIN"
            )
        finally:
            os.unlink(name)  # the open file stays until it is closed

    def close(self) -> None:
        self._db.close()

    # -- filling ---------------------------------------------------------------------------

    def claim_keys(self, given: Sequence[tuple[str, int, int]]) -> dict[int, int]:
        """Give each key to the row at a place, and line.

        Returns, by place, the line of the row that has the key already, where one has.
        """
        before = self._db.total_changes
        self._db.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?, ?)", given)
        if self._db.total_changes - before == len(given):
            return {}
        taken: dict[int, int] = {}
        for key, place, _ in given:
            holder, line = self._db.execute(
                "SELECT place, line FROM keys WHERE key = ?", (key,)
            ).fetchone()
            if holder != place:
                taken[place] = line
        return taken

    def put(self, rows: Sequence[StagedRow]) -> None:
        """Keep rows, which come in the order of their places, in blocks of one transaction each."""
        if not rows:
            return
        data = marshal.dumps([tuple(row) for row in rows])
        if len(rows) > BATCH_SIZE or (len(data) > BATCH_BYTES and len(rows) > 1):
            half = len(rows) // 2
            self.put(rows[:half])
            self.put(rows[half:])
        else:
            self._db.execute(
                "INSERT INTO blocks VALUES (?, ?, ?)", (rows[0].place, len(rows), data)
            )

    def wait_for(self, place: int, refs: Sequence[tuple[str, str]]) -> None:
        """Record the keys that a row waits for, each with its condition."""
        self._db.executemany(
            "INSERT OR IGNORE INTO refs VALUES (?, ?, ?)", ((place, *ref) for ref in refs)
        )

    def complete(self) -> None:
        """Finish filling: where some rows wait for others, make each row reachable by its place."""
        (self._in_blocks,) = self._db.execute("SELECT NOT EXISTS (SELECT 1 FROM refs)").fetchone()
        if not self._in_blocks:
            self._db.execute("CREATE INDEX refs_key ON refs (key)")
            for block in self._blocks():
                self._db.executemany(
                    "INSERT INTO rows VALUES (?, ?, ?)",
                    ((row.place, row.line, marshal.dumps(row.values)) for row in block),
                )
            self._db.execute("DELETE FROM blocks")

    def _blocks(self) -> Iterator[list[StagedRow]]:
        for (data,) in self._db.execute("SELECT data FROM blocks ORDER BY place"):
            yield [StagedRow(*row) for row in marshal.loads(data)]  # noqa: S302 - written by this process

    # -- checking --------------------------------------------------------------------------

    def unknown_keys(self) -> Iterator[list[tuple[str, int]]]:
        """Yield keys that rows wait for and no row has, with the place of the first such row."""
        last = ""
        while found := self._db.execute(
            "SELECT key, min(child) FROM refs WHERE key > ? "
            "AND NOT EXISTS (SELECT 1 FROM keys WHERE keys.key = refs.key) "
            "GROUP BY key ORDER BY key LIMIT ?",
            (last, BATCH_SIZE),
        ).fetchall():
            yield found
            last = found[-1][0]

    def mark_as_ids(self, keys: Sequence[str]) -> None:
        """Record that these are not keys, but ids of jobs."""
        self._db.executemany("INSERT INTO ids VALUES (?)", ((key,) for key in keys))

    def is_id(self, key: str) -> bool:
        """Tell whether a key has been recorded as the id of a job."""
        found = self._db.execute("SELECT 1 FROM ids WHERE key = ?", (key,)).fetchone()
        return found is not None

    def drop_waiting_for(self, key: str) -> Iterator[tuple[int, str]]:
        """Remove the rows that wait for a key that no job has; yield their lines and conditions."""
        found = self._db.execute(
            "SELECT place, line, condition FROM rows JOIN refs ON child = place WHERE key = ?",
            (key,),
        ).fetchall()
        for place, line, condition in found:
            self._db.execute("DELETE FROM rows WHERE place = ?", (place,))
            yield line, condition

    def arrange(self) -> None:
        """Sort the rows so that each comes after those that it waits for."""
        if self._in_blocks:
            return
        (backwards,) = self._db.execute(
            "SELECT NOT EXISTS (SELECT 1 FROM refs JOIN keys USING (key) "
            "WHERE keys.place >= child OR keys.place NOT IN (SELECT place FROM rows))"
        ).fetchone()
        self._in_order = bool(backwards)
        if self._in_order:
            return
        self._db.executescript(
            "CREATE TABLE edges AS SELECT keys.place AS parent, child, condition "
            "FROM refs JOIN keys USING (key) WHERE child IN (SELECT place FROM rows); "
            "CREATE INDEX edges_parent ON edges (parent); "
            "CREATE INDEX edges_child ON edges (child); "
            "CREATE INDEX keys_place ON keys (place); "
            "CREATE TABLE waiting (child INTEGER PRIMARY KEY, unmet INTEGER); "
            "INSERT INTO waiting SELECT child, count(*) FROM edges GROUP BY child; "
            "INSERT INTO places (place) SELECT place FROM rows "
            "WHERE place NOT IN (SELECT child FROM waiting) ORDER BY place"
        )
        self._release()

    def _release(self) -> None:
        done = 0
        while found := self._db.execute(
            "SELECT seq, place FROM places WHERE seq > ? ORDER BY seq LIMIT ?", (done, BATCH_SIZE)
        ).fetchall():
            done = found[-1][0]
            for _, place in found:
                ready = self._db.execute(
                    "UPDATE waiting SET unmet = unmet - 1 "
                    "WHERE child IN (SELECT child FROM edges WHERE parent = ?) "
                    "RETURNING child, unmet",
                    (place,),
                ).fetchall()
                self._db.executemany(
                    "INSERT INTO places (place) VALUES (?)",
                    sorted((child,) for child, unmet in ready if not unmet),
                )

    def stuck(self) -> Iterator[tuple[int, int]]:
        """Yield the places and lines of the rows that could not be sorted."""
        if not self._in_order:
            yield from self._db.execute(
                "SELECT place, line FROM rows WHERE place NOT IN (SELECT place FROM places) "
                "ORDER BY place"
            )

    def reason_stuck(self, place: int) -> tuple[str, str]:
        """Return the condition on the parent that blocks a row, and the reason it does."""
        way = [place]
        seen = {place: 0}
        conditions: list[str] = []
        while found := self._stuck_parent(way[-1]):
            parent, condition = found
            conditions.append(condition)
            if parent in seen:
                circle = self._circle(way[seen[parent] :], starts_here=seen[parent] == 0)
                return conditions[0], circle
            seen[parent] = len(way)
            way.append(parent)
        key, line = self._key_of(way[1])
        return conditions[0], f"waits for {key!r} (line {line}), which can't be added"

    def _stuck_parent(self, place: int) -> tuple[int, str] | None:
        """Return a parent that could not be sorted either; None for a row that is invalid itself."""
        found: tuple[int, str] | None = self._db.execute(
            "SELECT parent, condition FROM edges WHERE child = ? "
            "AND parent NOT IN (SELECT place FROM places) ORDER BY parent LIMIT 1",
            (place,),
        ).fetchone()
        return found

    def _circle(self, way: list[int], *, starts_here: bool) -> str:
        names = [self._key_of(place)[0] for place in way[:_MAX_KEYS_NAMED]]
        if len(way) > _MAX_KEYS_NAMED:
            names.append("…")
        circle = " → ".join([*names, names[0]])
        if starts_here:
            return f"these rows wait for each other in a circle: {circle}"
        return f"waits for rows that wait for each other in a circle: {circle}"

    def _key_of(self, place: int) -> tuple[str, int]:
        # Only rows that others wait for come here: each has a key.
        key, line = self._db.execute(
            "SELECT key, line FROM keys WHERE place = ?", (place,)
        ).fetchone()
        return key, line

    # -- reading ---------------------------------------------------------------------------

    def __len__(self) -> int:
        what = "total(rows) FROM blocks"
        if not self._in_blocks:
            what = "count(*) FROM rows" if self._in_order else "count(*) FROM places"
        (number,) = self._db.execute(f"SELECT {what}").fetchone()
        return int(number)

    def batches(self) -> Iterator[list[StagedRow]]:
        """Yield the rows in the order to add them in, a batch for each transaction."""
        yield from self._blocks() if self._in_blocks else _in_batches(self._rows())

    def _rows(self) -> Iterator[tuple[int, StagedRow]]:
        """Yield each row with its size."""
        source = "rows ORDER BY place"
        if not self._in_order:
            source = "places JOIN rows USING (place) ORDER BY seq"
        for place, line, data in self._db.execute(f"SELECT place, line, data FROM {source}"):  # noqa: S608 - two names
            yield len(data), StagedRow(place, line, marshal.loads(data))  # noqa: S302 - written by this process


def _in_batches(rows: Iterator[tuple[int, StagedRow]]) -> Iterator[list[StagedRow]]:
    batch: list[StagedRow] = []
    total = 0
    for size, row in rows:
        batch.append(row)
        total += size
        if len(batch) >= BATCH_SIZE or total >= BATCH_BYTES:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch
