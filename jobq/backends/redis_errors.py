"""What goes wrong with a Redis server, as errors of ours: what, where, and what to do about it."""

from typing import NoReturn

import redis
from redis import exceptions as theirs

from jobq.errors import (
    DatabaseDamagedError,
    DatabaseError,
    DatabaseLockedError,
    DatabaseNewerError,
    DatabaseReadOnlyError,
    DatabaseUnavailableError,
    DatabaseUnreachableError,
    DiskFullError,
    HalfFilledError,
)

LAYOUT = "1"
"""Of the keys: a server with another one is not written to."""

FILLING = "filling"
"""In its place while `jobq migrate` fills the store: whoever does not do that is turned away."""

_ANSWERS: tuple[tuple[str, type[DatabaseError], str], ...] = (
    ("OOM", DiskFullError, "prune jobs, or raise its maxmemory; nothing was stored"),
    ("MISCONF", DiskFullError, "it can't save its data: free some disk space there"),
    ("READONLY", DatabaseUnavailableError, "a replica: name the primary in `backend`"),
    ("LOADING", DatabaseUnavailableError, "it reads its data from disk: try again before long"),
    ("MASTERDOWN", DatabaseUnavailableError, "its primary is away: try again before long"),
    ("CLUSTERDOWN", DatabaseUnavailableError, "the cluster is not whole: try again before long"),
    ("TRYAGAIN", DatabaseUnavailableError, "the cluster moves its slot: try again before long"),
    ("BUSY", DatabaseUnavailableError, "a script takes long there: try again before long"),
    ("NOREPLICAS", DatabaseUnavailableError, "too few replicas: try again before long"),
    ("NOPERM", DatabaseReadOnlyError, "give the user the rights that docs/redis.md names"),
    ("NOAUTH", DatabaseError, "put its password into `backend`: redis://USER:PASSWORD@…"),
    ("WRONGPASS", DatabaseError, "set the right user and password in `backend`"),
    ("WRONGTYPE", DatabaseDamagedError, "another program uses its keys: choose another ?name="),
)
"""How answers begin, and what to do about them."""

_LOST = (theirs.ConnectionError, theirs.TimeoutError, OSError)
_IN_TURN = (theirs.AuthenticationError, theirs.BusyLoadingError)
"""Of those that redis-py takes for lost connections: the server did answer."""


def is_lost(error: Exception) -> bool:
    """Whether no answer came: what was asked for may have been done all the same."""
    return isinstance(error, _LOST) and not isinstance(error, _IN_TURN)


def raise_ours(shown: str, error: Exception) -> NoReturn:
    """Raise a `DatabaseError` for what the server answered, or redis-py raised."""
    text = " ".join(str(error).split()).rstrip(".")
    if is_lost(error) and "certificate" in text.lower():
        raise DatabaseError(f"{shown}: {text}: see `ssl_ca_certs` in docs/redis.md") from error
    for start, kind, advice in _ANSWERS:
        if text.startswith(start) or f"-{start} " in text or f" {start} " in f" {text} ":
            raise kind(f"{shown}: {text}: {advice}") from error
    if isinstance(error, theirs.BusyLoadingError):
        raise DatabaseUnavailableError(
            f"{shown}: {text}: it reads its data from disk: try again before long"
        ) from error
    if isinstance(error, theirs.AuthenticationError):
        raise DatabaseError(
            f"{shown}: {text}: set the right user and password in `backend`"
        ) from error
    if is_lost(error):
        raise DatabaseUnreachableError(
            f"{shown}: {text}: see that the server runs and can be reached from here"
        ) from error
    if isinstance(error, redis.RedisError):
        raise DatabaseError(f"{shown}: {text}: see docs/redis.md for what it must offer") from error
    raise error


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
