"""What goes wrong with a Redis server, as errors of ours: what, where, and what to do about it."""

from collections.abc import Mapping
from typing import NoReturn

from redis import exceptions as theirs

from jobq.errors import (
    DatabaseDamagedError,
    DatabaseError,
    DatabaseLockedError,
    DatabaseNewerError,
    DatabaseReadOnlyError,
    DatabaseStoppedError,
    DatabaseUnavailableError,
    DatabaseUnreachableError,
    DiskFullError,
    HalfFilledError,
)

LAYOUT = "1"
"""Of the keys: a server with another one is not written to."""

FILLING = "filling"
"""In its place while `jobq migrate` fills the store: whoever does not do that is turned away."""

_LATER = "try again before long"
_LOGIN = "set the right user and password in `backend`: redis://USER:PASSWORD@…"
_ANSWERS: Mapping[str, tuple[type[DatabaseError], str]] = {
    "OOM": (DiskFullError, "prune jobs, or raise its maxmemory; nothing was stored"),
    "MISCONF": (DiskFullError, "it can't save its data: free some disk space there"),
    "READONLY": (DatabaseUnavailableError, "a replica: name the primary in `backend`"),
    "LOADING": (DatabaseStoppedError, f"it reads its data from disk: {_LATER}"),
    "MASTERDOWN": (DatabaseUnavailableError, f"its primary is away: {_LATER}"),
    "CLUSTERDOWN": (DatabaseUnavailableError, f"the cluster is not whole: {_LATER}"),
    "TRYAGAIN": (DatabaseUnavailableError, f"the cluster moves its slot: {_LATER}"),
    "BUSY": (DatabaseUnavailableError, f"a script takes long there: {_LATER}"),
    "NOREPLICAS": (DatabaseUnavailableError, f"too few replicas: {_LATER}"),
    "NOPERM": (DatabaseReadOnlyError, "give the user the rights that docs/redis.md names"),
    "NOAUTH": (DatabaseError, _LOGIN),
    "WRONGPASS": (DatabaseError, _LOGIN),
    "WRONGTYPE": (DatabaseDamagedError, "another program uses its keys: choose another ?name="),
}
"""What the codes of answers mean, and what to do about them."""

_CODES: Mapping[type[Exception], str] = {
    theirs.OutOfMemoryError: "OOM",
    theirs.ReadOnlyError: "READONLY",
    theirs.BusyLoadingError: "LOADING",
    theirs.MasterDownError: "MASTERDOWN",
    theirs.ClusterDownError: "CLUSTERDOWN",
    theirs.TryAgainError: "TRYAGAIN",
    theirs.NoPermissionError: "NOPERM",
    theirs.AuthenticationError: "WRONGPASS",
}
"""redis-py takes the code off those errors that it has a class for."""

_LOST = (theirs.ConnectionError, theirs.TimeoutError, OSError)
_ANSWERED = (theirs.AuthenticationError, theirs.BusyLoadingError)
"""Of those that redis-py takes for lost connections: the server did answer."""


def is_lost(error: Exception) -> bool:
    """Whether no answer came: what was asked for may have been done all the same."""
    return isinstance(error, _LOST) and not isinstance(error, _ANSWERED)


def raise_ours(shown: str, error: Exception) -> NoReturn:
    """Raise a `DatabaseError` for what the server answered, or redis-py raised.

    What is raised because of a mistake in jobq stays as it is.
    """
    text = " ".join(str(error).split()).rstrip(".")
    code = _code_of(error, text)
    if code is not None:
        kind, advice = _ANSWERS[code]
        raise kind(f"{shown}: {_without_script(text)}: {advice}") from error
    if is_lost(error) and "certificate" in text.lower():
        raise DatabaseError(f"{shown}: {text}: see `ssl_ca_certs` in docs/redis.md") from error
    if is_lost(error):
        raise _lost(error)(
            f"{shown}: {text}: see that the server runs and can be reached from here"
        ) from error
    if isinstance(error, (theirs.RedisError, theirs.RedisClusterException)):
        raise DatabaseError(f"{shown}: {text}: docs/redis.md says what it must offer") from error
    raise error


def _code_of(error: Exception, text: str) -> str | None:
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    # A command that fails within a script: Redis 6.2 has its answer at the end.
    return next((c for c in _ANSWERS if text.startswith(f"{c} ") or f" -{c} " in text), None)


def _without_script(text: str) -> str:
    """The answer of a command alone, without the place in a script that it failed at."""
    return text.partition(", script: ")[0].rpartition(": -")[2]


def _lost(error: BaseException | None) -> type[DatabaseError]:
    """Whether its machine says that no server is there, or nothing is known of it."""
    seen = error
    while seen is not None:
        if isinstance(seen, (ConnectionRefusedError, FileNotFoundError)):
            return DatabaseStoppedError
        seen = seen.__cause__ or seen.__context__
    return DatabaseUnreachableError


def raise_refused(shown: str, kind: str, *told: str) -> None:
    """Raise an error for an answer of `main.lua` that is none of a verb's; else do nothing."""
    if kind == "version" and told[0] == FILLING:
        raise HalfFilledError(
            f"{shown}: half filled by `jobq migrate`, and not to be used before it ends: run it "
            "again as it was"
        )
    if kind == "version":
        raise DatabaseNewerError(
            f"{shown}: its layout is {told[0]}, and this jobq works with {LAYOUT}: install the "
            "jobq that wrote it; nothing was changed"
        )
    if kind == "foreign":
        raise DatabaseDamagedError(
            f"{shown}: another program uses its keys: choose another ?name=; nothing was changed"
        )
    if kind == "expired":
        raise DatabaseLockedError(
            f"{shown}: this took so long that others went on meanwhile: try again; nothing was "
            "changed"
        )
