"""Errors of a Redis server as errors of jobq: what happened, where, and what to do about it."""

import re
from collections.abc import Mapping
from typing import NoReturn

from redis import exceptions as theirs

from jobq.errors import (
    DatabaseDamagedError,
    DatabaseError,
    DatabaseLockedError,
    DatabaseNewerError,
    DatabaseRefusesError,
    DatabaseStoppedError,
    DatabaseUnreachableError,
    DiskFullError,
    HalfFilledError,
    JobqError,
    NotFound,
    UsageError,
    WrongState,
)

LAYOUT = "1"
"""Version of the keys: a store with another one is not written to."""

FILLING = "filling"
"""In its place while `jobq migrate` fills the store: every other process is refused."""

_LATER = "try again later"
_ANSWERS: Mapping[str, tuple[type[DatabaseError], str]] = {
    "OOM": (DiskFullError, "prune jobs, or raise its maxmemory; nothing was stored"),
    "MISCONF": (DiskFullError, "it can't save its data: free some disk space there"),
    "READONLY": (DatabaseUnreachableError, "it is a replica: name the primary in `backend`"),
    "LOADING": (DatabaseStoppedError, f"it is loading its data from disk: {_LATER}"),
    "MASTERDOWN": (DatabaseUnreachableError, f"its primary is not reachable: {_LATER}"),
    "CLUSTERDOWN": (DatabaseUnreachableError, f"the cluster is incomplete: {_LATER}"),
    "NOREPLICAS": (DatabaseUnreachableError, f"it has too few replicas: {_LATER}"),
    "TRYAGAIN": (DatabaseLockedError, f"the cluster is moving its slot: {_LATER}"),
    "BUSY": (DatabaseLockedError, f"it is busy with a long script: {_LATER}"),
    "WRONGTYPE": (DatabaseDamagedError, "another program uses its keys: choose another ?name="),
    "DB": (DatabaseError, "name one that it has: 0 to 15, unless `databases` there says more"),
    "NOPERM": (DatabaseRefusesError, "give the user the rights that docs/redis.md names"),
    "NOAUTH": (
        DatabaseRefusesError,
        "put user and password into `backend`: redis://USER:PASSWORD@…",
    ),
}
"""First words of answers, each with its error and what to do about it."""

_REFUSALS: Mapping[str, tuple[type[JobqError], str]] = {
    "no queue": (
        NotFound,
        "no queue '{0}': known are {1} (create it with `jobq queue create {0}`)",
    ),
    "no parent": (NotFound, "no job {0} to wait for: see `jobq list`"),
    "two conditions": (UsageError, "parent {0} is named with two conditions: choose one"),
    "default queue": (
        WrongState,
        "queue '{0}' can't be deleted: jobs without a queue go there",
    ),
    "queue has jobs": (
        WrongState,
        "queue '{0}' has {1} jobs: cancel and prune them first (`jobq list --queue {0}`)",
    ),
    "schedule there": (
        WrongState,
        "schedule '{0}' already exists: choose another --name, or `jobq schedule remove {0}`",
    ),
}
"""Errors for verbs that did nothing, by the reason that the script gives."""

_CLASSES: Mapping[type[Exception], str] = {
    theirs.OutOfMemoryError: "OOM",
    theirs.ReadOnlyError: "READONLY",
    theirs.BusyLoadingError: "LOADING",
    theirs.MasterDownError: "MASTERDOWN",
    theirs.ClusterDownError: "CLUSTERDOWN",
    theirs.TryAgainError: "TRYAGAIN",
    theirs.NoPermissionError: "NOPERM",
    theirs.AuthenticationError: "NOAUTH",
}
"""First words that redis-py cuts off and turns into a class."""

_IN_SCRIPT = "The user executing the script can't run"
"""The message of Redis 6.2 for a missing right: it neither names the right nor has a code."""

_LOST = (theirs.ConnectionError, theirs.TimeoutError, OSError)
_ANSWERED = (theirs.AuthenticationError, theirs.BusyLoadingError)
"""Errors that redis-py derives from lost connections, although the server did answer."""

_NOISE = re.compile(
    r"^(ERR )?Error running script \(call to f_\w+\): (@\w+: ?\d+: )*-?|"
    r",? script: \w+, on @\w+:\d+|"
    r"^Error -?\d+ connecting to \S+\. |\[SSL: \w+\] | \(_ssl\.c:\d+\)"
)
"""Numbers, and positions in scripts and libraries: of no use to people."""


def is_lost(error: Exception) -> bool:
    """Return whether no answer came: the request may have been executed all the same."""
    return isinstance(error, _LOST) and not isinstance(error, _ANSWERED)


def may_have_arrived(error: Exception) -> bool:
    """Return whether the request may have reached the server, although no answer came."""
    return is_lost(error) and "connecting to" not in str(error)


def raise_ours(shown: str, error: Exception, *, may_be_done: bool = False) -> NoReturn:
    """Raise a `DatabaseError` for an answer of the server, or an error of redis-py.

    With ``may_be_done``, the message of a lost connection says that the outcome is unknown.

    Errors that a mistake in jobq causes are raised as they are.
    """
    text = _NOISE.sub("", " ".join(str(error).split())).rstrip(".")
    if is_lost(error):
        doubt = "; the request may have been executed all the same" if may_be_done else ""
        raise _of_connection(shown, text, error, doubt) from error
    kind, advice = _ANSWERS.get(_code_of(error, text), (None, ""))
    if kind is not None:
        raise kind(f"{shown}: {text}: {advice}") from error
    if isinstance(error, theirs.RedisError | theirs.RedisClusterException):
        raise DatabaseError(f"{shown}: {text}: docs/redis.md says what a server needs") from error
    raise error


def _code_of(error: Exception, text: str) -> str:
    if text.startswith(_IN_SCRIPT):
        return "NOPERM"
    codes = [code for kind, code in _CLASSES.items() if isinstance(error, kind)]
    return codes[0] if codes else text.partition(" ")[0]


def _of_connection(shown: str, text: str, error: Exception, doubt: str) -> DatabaseError:
    """Return the error for a connection that could not be made, or was lost."""
    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, OSError) and cause.errno):
        cause = cause.__cause__ or cause.__context__
    if "certificate" in text.lower():
        return DatabaseError(f"{shown}: {text}: see `ssl_ca_certs` in docs/redis.md")
    if isinstance(cause, PermissionError):
        return DatabaseError(f"{shown}: {text}: make it accessible for you")
    if isinstance(cause, FileNotFoundError) and not shown.startswith("unix:"):
        return DatabaseError(f"{shown}: {text}: check that the files that it names exist")
    if isinstance(cause, ConnectionRefusedError | FileNotFoundError):
        return DatabaseStoppedError(
            f"{shown}: {text}: start the server, or name another one{doubt}"
        )
    return DatabaseUnreachableError(
        f"{shown}: {text}: check that the server runs and can be reached from this host{doubt}"
    )


def raise_refused(shown: str, kind: str, *details: str) -> None:
    """Raise the error for a refusal of `main.lua` or of a verb; do nothing for any other."""
    if kind in _REFUSALS:
        error, text = _REFUSALS[kind]
        raise error(text.format(*details))
    if kind == "version" and details[0] == FILLING:
        raise HalfFilledError(
            f"{shown}: half filled by `jobq migrate`, and not usable before it ends: run the "
            "same command again"
        )
    if kind == "version":
        raise DatabaseNewerError(
            f"{shown}: its layout is version {details[0]}, this jobq needs {LAYOUT}: install the "
            "version of jobq that wrote it; nothing was changed"
        )
    if kind == "foreign":
        raise DatabaseDamagedError(
            f"{shown}: another program uses its keys: choose another ?name=; nothing was changed"
        )
    if kind == "replaced":
        raise DatabaseError(
            f"{shown}: the data is gone: the server was emptied or replaced. Restore it, or "
            "restart jobq to continue with what is there"
        )
    if kind == "expired":
        raise DatabaseLockedError(
            f"{shown}: this took so long that its lock expired: try again; nothing was changed"
        )
