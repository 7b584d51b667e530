"""A copy of the database, made while jobs run."""

from pathlib import Path

from jobq.backends.sqlite import backup as sqlite
from jobq.config.settings import SQLITE, Settings
from jobq.errors import UsageError


def backup(settings: Settings, to: Path, *, force: bool = False) -> int:
    """Copy the database to a file, and return its size in bytes. With ``force``, replace the file.

    Raises:
        UsageError: the file is there, or can't be one; or the jobs are on Redis.
        DatabaseError: the database can't be read, or is damaged.
        DiskFullError: there is no room for the copy.
    """
    if settings.backend != SQLITE:
        raise UsageError(
            f"backend {settings.backend_shown}: Redis is backed up where it runs: copy the dump.rdb "
            "that BGSAVE writes there, or `jobq migrate --to FILE` while nothing runs (docs/redis.md)"
        )
    return sqlite.backup(settings.database, to, force=force)
