"""Rights that jobq's user needs on a Redis server, and the oldest version of the server."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import RedisError, ResponseError

from jobq.backends.redis.scripts import rights_script

OLDEST_VERSION = (6, 2)

DIRECT_COMMANDS = (
    "EVALSHA",
    "EVAL",
    "EXISTS",
    "HMGET",
    "INFO",
    "SCAN",
    "SUBSCRIBE",
    "TIME",
    "WAIT",
    "XRANGE",
)
"""Commands that are sent by themselves, some of them by few verbs."""

_KEY = object()
SCRIPT_COMMANDS: Mapping[str, tuple[Any, ...]] = {
    "DEL": (_KEY,),
    "DUMP": (_KEY,),
    "EXISTS": (_KEY,),
    "GET": (_KEY,),
    "HDEL": (_KEY, "f"),
    "HEXISTS": (_KEY, "f"),
    "HGET": (_KEY, "f"),
    "HGETALL": (_KEY,),
    "HINCRBY": (_KEY, "f", 0),
    "HKEYS": (_KEY,),
    "HMGET": (_KEY, "f"),
    "HSET": (_KEY, "f", 0),
    "HVALS": (_KEY,),
    "PEXPIRE": (_KEY, 1000),
    "PUBLISH": (_KEY, ""),
    "RESTORE": (_KEY, 0, ""),
    "SADD": (_KEY, "f"),
    "SCARD": (_KEY,),
    "SET": (_KEY, "", "PX", 1000),
    "SISMEMBER": (_KEY, "f"),
    "SMEMBERS": (_KEY,),
    "SREM": (_KEY, "f"),
    "TIME": (),
    "UNLINK": (_KEY,),
    "XACK": (_KEY, "g", "1-1"),
    "XADD": (_KEY, "*", "f", ""),
    "XDEL": (_KEY, "1-1"),
    "XGROUP": ("CREATE", _KEY, "g", "0"),
    "XINFO": ("STREAM", _KEY),
    "XLEN": (_KEY,),
    "XRANGE": (_KEY, "-", "+"),
    "XREADGROUP": ("GROUP", "g", "c", "STREAMS", _KEY, ">"),
    "XREVRANGE": (_KEY, "+", "-"),
    "ZADD": (_KEY, 0, "f"),
    "ZCARD": (_KEY,),
    "ZCOUNT": (_KEY, 0, 0),
    "ZRANGE": (_KEY, 0, 0),
    "ZRANGEBYSCORE": (_KEY, 0, 0),
    "ZREM": (_KEY, "f"),
    "ZREMRANGEBYSCORE": (_KEY, 0, 0),
    "ZREVRANGE": (_KEY, 0, 0),
    "ZREVRANGEBYSCORE": (_KEY, 0, 0),
    "ZSCORE": (_KEY, "f"),
}
"""Commands that scripts use, each in a form that only affects a key that is not used."""

_NOT_PERMITTED = "The user executing the script can't run"
_UNKNOWN = "unknown redis command"


def script_probes(prefix: str) -> list[str]:
    """Return the arguments of `rights_script`: the commands that it tries."""
    key = f"{prefix}rights"
    return [
        json.dumps([command, *(key if each is _KEY else each for each in arguments)])
        for command, arguments in SCRIPT_COMMANDS.items()
    ]


def missing_rights(prefix: str, commands: Sequence[bytes]) -> Exception:
    """Return the error for a user who may not use these commands, or not with keys of this prefix."""
    names = ", ".join(command.decode().lower() for command in commands)
    refused: Exception = ResponseError(
        f"NOPERM its user may not use {names} with the keys {prefix}*"
    )
    return refused


def explain(client: Any, prefix: str, error: Exception) -> Exception:
    """Return a better error, where the server names neither the refused command nor the reason."""
    text = str(error)
    try:
        if _NOT_PERMITTED in text:
            source = rights_script().source
            missing: list[bytes] = client.eval(source, 1, f"{prefix}meta", *script_probes(prefix))
            if missing:
                return missing_rights(prefix, missing)
        elif _UNKNOWN in text.lower():
            return _too_old(client) or error
    except (RedisError, OSError):  # report the earlier answer
        pass
    return error


def _too_old(client: Any) -> Exception | None:
    version = str(client.info("server")["redis_version"])
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if numbers >= OLDEST_VERSION:
        return None
    oldest = ".".join(map(str, OLDEST_VERSION))
    outdated: Exception = ResponseError(f"Redis {version} is too old: jobq needs {oldest} or newer")
    return outdated
