"""Which backend the settings name, opened."""

from jobq.backends.base import Backend
from jobq.config.settings import SQLITE, Settings
from jobq.errors import ConfigError


def open_backend(settings: Settings) -> Backend:
    """Open the backend of these settings; what the others need is not imported.

    Raises:
        ConfigError: its library is not installed.
        DatabaseError: it can't be used.
    """
    backend = create_backend(settings)
    backend.open()
    return backend


def create_backend(settings: Settings) -> Backend:
    """The backend of these settings, which is opened by the first verb.

    Raises:
        ConfigError: its library is not installed.
    """
    if settings.backend == SQLITE:
        from jobq.backends.sqlite.backend import SqliteBackend

        return SqliteBackend(settings.database)
    try:
        from jobq.backends.redis.backend import RedisBackend
        from jobq.backends.redis.connection import TIMEOUT
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        raise ConfigError(
            f"backend {settings.backend_shown}: redis-py is not installed: "
            "pip install 'jobq[redis]'"
        ) from None
    # What a supervisor waits for an answer, and once more, must be short beside its leases.
    timeout = min(TIMEOUT, settings.lease / 12)
    return RedisBackend(settings.backend, settings.database.parent, timeout=timeout)
