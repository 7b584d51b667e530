"""What goes wrong with a Redis server, as errors of ours: what, where, and what to do about it."""

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
"""Of the keys: a server with another one is not written to."""

FILLING = "filling"
"""In its place while `jobq migrate` fills the store: whoever does not do that is turned away."""

_LATER = "try again before long"
_ANSWERS: Mapping[str, tuple[type[DatabaseError], str]] = {
    "OOM": (DiskFullError, "prune jobs, or raise its maxmemory; nothing was stored"),
    "MISCONF": (DiskFullError, "it can't save its data: free some disk space there"),
    "READONLY": (DatabaseUnreachableError, "it is a replica: name the primary in `backend`"),
    "LOADING": (DatabaseStoppedError, f"it reads its data from disk: {_LATER}"),
    "MASTERDOWN": (DatabaseUnreachableError, f"its primary is away: {_LATER}"),
    "CLUSTERDOWN": (DatabaseUnreachableError, f"the cluster is not whole: {_LATER}"),
    "NOREPLICAS": (DatabaseUnreachableError, f"too few of its replicas are there: {_LATER}"),
    "TRYAGAIN": (DatabaseLockedError, f"the cluster moves its slot: {_LATER}"),
    "BUSY": (DatabaseLockedError, f"a script takes long there: {_LATER}"),
    "WRONGTYPE": (DatabaseDamagedError, "another program uses its keys: choose another ?name="),
    "DB": (DatabaseError, "name one that it has: 0 to 15, unless `databases` there says more"),
    "NOPERM": (DatabaseRefusesError, "give the user the rights that docs/redis.md names"),
    "NOAUTH": (
        DatabaseRefusesError,
        "put user and password into `backend`: redis://USER:PASSWORD@…",
    ),
}
"""How answers begin, and what to do about them."""

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
"""Where redis-py has made a class of the beginning of an answer, and cut it off."""

_IN_SCRIPT = "The user executing the script can't run"
"""What Redis 6.2 says of a right that the user lacks: neither which, nor with a code."""

_LOST = (theirs.ConnectionError, theirs.TimeoutError, OSError)
_ANSWERED = (theirs.AuthenticationError, theirs.BusyLoadingError)
"""Of those that redis-py takes for lost connections: the server did answer."""

_NOISE = re.compile(
    r"^(ERR )?Error running script \(call to f_\w+\): (@\w+: ?\d+: )*-?|"
    r",? script: \w+, on @\w+:\d+|"
    r"^Error -?\d+ connecting to \S+\. |\[SSL: \w+\] | \(_ssl\.c:\d+\)"
)
"""Numbers, and places in scripts and libraries: of no use to people."""


def is_lost(error: Exception) -> bool:
    """Whether no answer came: what was asked for may have been done all the same."""
    return isinstance(error, _LOST) and not isinstance(error, _ANSWERED)


def may_have_arrived(error: Exception) -> bool:
    """Whether what was asked for may have reached the server, although no answer came."""
    return is_lost(error) and "connecting to" not in str(error)


def raise_ours(shown: str, error: Exception, *, may_be_done: bool = False) -> NoReturn:
    """Raise a `DatabaseError` for what the server answered, or redis-py raised.

    With ``may_be_done``, one of a lost connection says that there is no telling.

    What is raised because of a mistake in jobq stays as it is.
    """
    text = _NOISE.sub("", " ".join(str(error).split())).rstrip(".")
    if is_lost(error):
        doubt = "; what was asked for may have been done all the same" if may_be_done else ""
        raise _of_connection(shown, text, error, doubt) from error
    kind, advice = _ANSWERS.get(_code_of(error, text), (None, ""))
    if kind is not None:
        raise kind(f"{shown}: {text}: {advice}") from error
    if isinstance(error, theirs.RedisError | theirs.RedisClusterException):
        raise DatabaseError(f"{shown}: {text}: docs/redis.md says what it must offer") from error
    raise error


def _code_of(error: Exception, text: str) -> str:
    if text.startswith(_IN_SCRIPT):
        return "NOPERM"
    codes = [code for kind, code in _CLASSES.items() if isinstance(error, kind)]
    return codes[0] if codes else text.partition(" ")[0]


def _of_connection(shown: str, text: str, error: Exception, doubt: str) -> DatabaseError:
    """What is wrong with a connection that could not be made, or was lost."""
    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, OSError) and cause.errno):
        cause = cause.__cause__ or cause.__context__
    if "certificate" in text.lower():
        return DatabaseError(f"{shown}: {text}: see `ssl_ca_certs` in docs/redis.md")
    if isinstance(cause, PermissionError):
        return DatabaseError(f"{shown}: {text}: make it accessible for you")
    if isinstance(cause, FileNotFoundError) and not shown.startswith("unix:"):
        return DatabaseError(f"{shown}: {text}: see that the files that it names are there")
    if isinstance(cause, ConnectionRefusedError | FileNotFoundError):
        return DatabaseStoppedError(
            f"{shown}: {text}: start the server, or name another one{doubt}"
        )
    return DatabaseUnreachableError(
        f"{shown}: {text}: see that the server runs and can be reached from here{doubt}"
    )


def raise_refused(shown: str, kind: str, *told: str) -> None:
    """Raise the error for a refusal of `main.lua` or of a verb; do nothing for any other."""
    if kind in _REFUSALS:
        error, text = _REFUSALS[kind]
        raise error(text.format(*told))
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
    if kind == "replaced":
        raise DatabaseError(
            f"{shown}: all that was there is gone, or this is another server: bring it back, or "
            "start again with what is there now"
        )
    if kind == "expired":
        raise DatabaseLockedError(
            f"{shown}: this took so long that others went on meanwhile: try again; nothing was "
            "changed"
        )
