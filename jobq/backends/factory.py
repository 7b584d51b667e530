"""The backend that the settings name."""

from jobq.backends.base import Backend
from jobq.config.settings import SQLITE, Settings
from jobq.config.trust import refuse_foreign
from jobq.errors import ConfigError, DatabaseError


def open_backend(settings: Settings) -> Backend:
    """Open the backend of these settings, without importing the libraries of others.

    Raises:
        ConfigError: its library is not installed.
        DatabaseError: it can't be used.
    """
    backend = create_backend(settings)
    backend.open()
    return backend


def import_backend(settings: Settings) -> None:
    """Import what `create_backend` needs for these settings."""
    if settings.backend == SQLITE:
        import jobq.backends.sqlite.backend
    else:
        import jobq.backends.redis.backend  # noqa: F401


def create_backend(settings: Settings) -> Backend:
    """Return the backend of these settings; its first verb opens it.

    Raises:
        ConfigError: its library is not installed.
        DatabaseError: another user's database, or one that others may write to or replace.
    """
    if settings.backend == SQLITE:
        from jobq.backends.sqlite.backend import SqliteBackend

        refuse_foreign(settings.database, DatabaseError)
        return SqliteBackend(settings.database)
    try:
        from jobq.backends.redis.backend import RedisBackend
        from jobq.backends.redis.connection import ANSWER_TIMEOUT_S
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        raise ConfigError(
            f"backend {settings.backend_shown}: redis-py is not installed: "
            "pipx inject jobq redis, or in jobq's venv: pip install redis"
        ) from None
    # Waiting for an answer twice must take a supervisor far less time than a lease lasts.
    timeout = min(ANSWER_TIMEOUT_S, settings.lease / 12)
    return RedisBackend(settings.backend, settings.database.parent, timeout=timeout)
