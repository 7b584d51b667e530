"""What a user must be allowed to do on a Redis server, and what the server must be able to."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from redis.exceptions import RedisError, ResponseError

from jobq.backends.redis.scripts import rights_script

OLDEST = (6, 2)

DIRECT = (
    "EVALSHA",
    "EVAL",
    "EXISTS",
    "HGET",
    "INFO",
    "SCAN",
    "SUBSCRIBE",
    "TIME",
    "WAIT",
    "XRANGE",
)
"""Commands that are sent as such, some of them by few verbs."""

_KEY = object()
IN_SCRIPTS: Mapping[str, tuple[Any, ...]] = {
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
"""Commands that scripts use, each in a form that does nothing but to a key that nobody uses."""

_NOT_PERMITTED = "The user executing the script can't run"
_UNKNOWN = "unknown redis command"


def in_scripts(prefix: str) -> list[str]:
    """The arguments of `rights_script`: what it tries."""
    key = f"{prefix}rights"
    return [
        json.dumps([command, *(key if each is _KEY else each for each in arguments)])
        for command, arguments in IN_SCRIPTS.items()
    ]


def lacking(prefix: str, commands: Sequence[bytes]) -> Exception:
    """The error for a user who may not use these, or not with the keys that begin so."""
    names = ", ".join(command.decode().lower() for command in commands)
    told: Exception = ResponseError(f"NOPERM its user may not use {names} with the keys {prefix}*")
    return told


def explained(client: Any, prefix: str, error: Exception) -> Exception:
    """A better error, where a server says of a script neither which command, nor why not."""
    text = str(error)
    try:
        if _NOT_PERMITTED in text:
            source = rights_script().source
            missing: list[bytes] = client.eval(source, 1, f"{prefix}meta", *in_scripts(prefix))
            if missing:
                return lacking(prefix, missing)
        elif _UNKNOWN in text.lower():
            return _too_old(client) or error
    except (RedisError, OSError):  # a moment ago there was an answer: that one is told
        pass
    return error


def _too_old(client: Any) -> Exception | None:
    version = str(client.info("server")["redis_version"])
    numbers = tuple(int(part) for part in version.split(".")[:2])
    if numbers >= OLDEST:
        return None
    oldest = ".".join(map(str, OLDEST))
    told: Exception = ResponseError(f"Redis {version} is too old: jobq needs {oldest} or newer")
    return told
