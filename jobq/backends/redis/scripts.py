"""The Lua scripts of the Redis backend: each verb's script is joined from the files it needs."""

from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import NamedTuple

_JOBS = ("common", "jobs")
_QUEUES = (*_JOBS, "queues")
_SETTLE = (*_QUEUES, "dependents")
_END = (*_SETTLE, "end")

EVERYTHING = (
    *_END, "claim", "insert", "heartbeat", "exchange", "change", "schedules", "upkeep", "read",
    "failures", "migrate_data",
)  # fmt: skip
"""All files, each behind those that it needs: the script of groups."""

_VERBS: dict[str, tuple[str, ...]] = {
    "next_due": _QUEUES,
    "settle": _SETTLE,
    "insert": (*_SETTLE, "insert"),
    "claim": (*_QUEUES, "claim"),
    "end": _END,
    "cancel requeue delete": (*_SETTLE, "change"),
    "exchange unclaim": (*_END, "claim", "heartbeat", "exchange"),
    "started progress heartbeat cancel_requests": (*_END, "heartbeat"),
    "queues put_queues delete_queue register unregister supervisors maintain "
    "correct_waits identity": (
        *_QUEUES, "upkeep",
    ),
    "signatures failures unsigned sign": (*_JOBS, "failures"),
    "add_schedule schedules replace_schedule remove_schedule fire firings": (
        *_SETTLE, "insert", "schedules",
    ),
    "get find counts attempts open_attempts histories children known_keys key_holder ended "
    "finished_before ended_after page ahead next_start unsettled strays flaws": (*_SETTLE, "read"),
}  # fmt: skip
_PARTS = {verb: parts for verbs, parts in _VERBS.items() for verb in verbs.split()}
"""The files of each verb; verbs that are not listed use all files."""


class Script(NamedTuple):
    """A script, and the hash that names it on the server."""

    source: str
    sha: str


@cache
def _file(name: str) -> str:
    return files("jobq.backends.redis").joinpath("lua", f"{name}.lua").read_text("utf-8")


@cache
def _script(parts: tuple[str, ...]) -> Script:
    return _of("\n".join(map(_file, (*parts, "main"))))


def _of(source: str) -> Script:
    return Script(source, sha1(source.encode(), usedforsecurity=False).hexdigest())


def script_of(verbs: set[str]) -> Script:
    """Return the script that runs these verbs."""
    if len(verbs) == 1:
        return _script(_PARTS.get(next(iter(verbs)), EVERYTHING))
    return _script(EVERYTHING)


@cache
def ship_script() -> Script:
    """Return the script that keeps output for other hosts: not a verb, and alone in its script."""
    return _of(_file("logs"))


@cache
def rights_script() -> Script:
    """Return the script that lists the commands that the user may not use."""
    return _of(_file("acl"))


@cache
def place_script() -> Script:
    """Return the script that identifies the server that has the keys."""
    return _of("return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')")
