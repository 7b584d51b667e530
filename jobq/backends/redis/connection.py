"""Calls to a Redis server: one script each, whose answer is not lost, and groups of them."""

import json
import os
import random
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Any
from uuid import uuid4

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    MovedError,
    NoScriptError,
    RedisClusterException,
    RedisError,
)
from redis.exceptions import (
    TimeoutError as NoAnswerError,
)
from redis.retry import Retry

from jobq.backends.redis.acl import explained, in_scripts, lacking
from jobq.backends.redis.errors import LAYOUT, is_lost, may_have_arrived, raise_ours, raise_refused
from jobq.backends.redis.listener import RedisListener
from jobq.backends.redis.rows import to_moment
from jobq.backends.redis.scripts import Script, rights_script, script_of
from jobq.clock import utcnow
from jobq.config.redis_url import RedisUrl
from jobq.errors import (
    ConfigError,
    DatabaseAwayError,
    DatabaseLockedError,
    DatabaseUnreachableError,
    JobqError,
)

TIMEOUT = 5.0
"""Seconds that a connection, or an answer, may take, unless told otherwise."""

AGAIN = (0.0, 0.05, 0.2)
"""Seconds before a call is repeated whose connection was lost; where nothing was heard, once."""

KEPT = 120.0
"""Seconds for which the server knows what it answered last."""

HELD = 5.0
"""Seconds that a group may be without a sign of life before others go on."""

PATIENCE = 30.0
"""Seconds that a call waits for the group of somebody else."""

_encode = json.JSONEncoder(separators=(",", ":")).encode

Op = tuple[str, dict[str, Any]]


class Refused(Exception):
    """A verb did nothing, and says why; never seen outside of the backend."""

    def __init__(self, kind: str, *told: str) -> None:
        super().__init__(kind, *told)
        self.kind = kind
        self.told = told


@dataclass(slots=True)
class _Group:
    """The verbs of a group so far, and the token of the lock that keeps others out."""

    token: str = field(default_factory=lambda: uuid4().hex)
    ops: list[Op] = field(default_factory=list)
    begun: bool = False


class _Local(threading.local):
    """What each thread has for itself: its group, and where its last answer is kept."""

    def __init__(self) -> None:
        self.group: _Group | None = None
        self.slot = uuid4().hex[:16]
        self.number = 0


class RedisConnection:
    """A server, for any number of threads; it may be carried across a fork."""

    def __init__(self, url: RedisUrl, *, clock: str = "server", timeout: float = TIMEOUT) -> None:
        self.url = url
        self._timeout = timeout if url.timeout is None else min(timeout, url.timeout)
        self.layout = LAYOUT
        self._clock = clock
        self._making = threading.Lock()  # two would take each other's connections away
        self._client: Any = None
        self._first: Any = None
        self._is_cluster = False
        self._local = _Local()
        self._ahead: timedelta | None = None if clock == "server" else timedelta()
        self._may_write = False  # as far as is known
        self._born: str | None = None  # which store it is, for who holds something there

    # -- the client ------------------------------------------------------------------------

    @property
    def client(self) -> Any:
        """redis-py's, whose pool gives every thread and process connections of its own."""
        if self._client is None:
            with self._making:
                self._client = self._client or self._made()
        return self._client

    def _made(self) -> Any:
        try:
            client = redis.Redis.from_url(self.url.server, **self._options())
            pool = client.connection_pool
            pool.connection_class(**pool.connection_kwargs)  # which looks at the options
        except (TypeError, ValueError, RedisError) as error:
            raise ConfigError(f"backend {self.url.shown}: {error}") from None
        return client

    def _options(self) -> dict[str, Any]:
        keeps = {} if self.url.server.startswith("unix:") else {"socket_keepalive": True}
        return keeps | {
            "socket_timeout": self._timeout,
            "socket_connect_timeout": self._timeout,
            "retry": Retry(NoBackoff(), 0),  # what may have been done is repeated in `_send` alone
            "protocol": 2,
        }

    def _become_cluster(self) -> None:
        """Go on with a client that finds the node on which the keys are."""
        with self._making:
            if not self._is_cluster:
                if self.url.replicas:
                    raise ConfigError(
                        f"backend {self.url.shown}: wait= can't be had with a cluster"
                    )
                options = self._options() | {"retry": Retry(NoBackoff(), 3)}
                self._first = self._client  # other threads may still be using it
                self._client = redis.RedisCluster.from_url(self.url.server, **options)
                self._is_cluster = True

    def close(self) -> None:
        for client in (self._client, self._first):
            if client is not None:
                with suppress(RedisError, OSError):
                    client.close()
        self._client = self._first = None
        self._is_cluster = False

    def listener(self, lock: int) -> RedisListener:
        """A subscription to what wakes, for the owner who holds the lock."""
        channel = self.url.prefix + "wake"
        self._born = self._born or ""
        try:
            return RedisListener(self.client, channel, lock)
        except (RedisError, OSError) as error:
            os.close(lock)
            raise_ours(self.url.shown, error)

    def ahead(self) -> timedelta:
        """By how much the server's clock is ahead of ours, as it told last."""
        if self._ahead is None:
            seconds, micros = self.ask("TIME")
            self._note_time(int(seconds) * 1_000_000 + int(micros))
        return self._ahead or timedelta()

    def _note(self, micros: bytes | None = None, born: bytes | None = None) -> None:
        """What the server has told besides; of an answer that is given again, nothing."""
        if micros is not None:
            self._note_time(int(micros))
        if born is not None:
            self._born = born.decode()

    def _note_time(self, micros: int) -> None:
        self._ahead = to_moment(micros) - utcnow()

    def ask(self, *command: Any) -> Any:
        """The answer to a plain command that changes nothing."""
        return self._sent(lambda: self.client.execute_command(*command))

    def run(self, script: Script, *arguments: Any) -> Any:
        """The answer of a script that is none of the verbs. It may run twice."""
        return self._sent(lambda: self._evaluated(script, *arguments))

    def _evaluated(self, script: Script, *arguments: Any) -> Any:
        meta = self.url.prefix + "meta"
        try:
            return self.client.evalsha(script.sha, 1, meta, *arguments)
        except NoScriptError:
            return self.client.eval(script.source, 1, meta, *arguments)

    def keys(self, prefix: str, portion: int) -> Iterator[list[bytes]]:
        """The names of all keys that begin so, about so many at a time."""
        found = iter(self.client.scan_iter(match=f"{prefix}*", count=portion))
        try:
            while keys := list(islice(found, portion)):
                yield keys
        except (RedisError, OSError) as error:
            raise_ours(self.url.shown, error)

    # -- calls -----------------------------------------------------------------------------

    def read(self, verb: str, **arguments: Any) -> Any:
        """The answer of a verb that changes nothing."""
        return self._call((verb, arguments), writes=False, wakes=False)

    def write(self, verb: str, *, wakes: bool = False, **arguments: Any) -> Any:
        """The answer of a verb that changes something; ``wakes``: listeners, too.

        Raises:
            Refused: it changed nothing.
        """
        return self._call((verb, arguments), writes=True, wakes=wakes)

    def _call(self, op: Op, *, writes: bool, wakes: bool) -> Any:
        group = self._local.group
        if group is None:
            return self._run([op], writes=writes, wakes=wakes)
        result = self._run([*group.ops, op], writes=writes, group=group, rehearsal=True)
        if writes:
            group.ops.append(op)
        return result

    @contextmanager
    def group(self) -> Iterator[None]:
        """Verbs inside are rehearsed, one by one, while others wait; at the end, all are done.

        A rehearsal does what went before again, then the verb itself, and undoes all of it: so
        each sees what the last one did, and nobody else does.
        """
        outer = self._local.group
        if outer is not None:
            done = len(outer.ops)
            try:
                yield
            except BaseException:
                del outer.ops[done:]
                raise
            return
        group = self._local.group = _Group()
        try:
            yield
            if group.begun:
                self._run(group.ops, writes=True, wakes=True, group=group)
        except BaseException:
            self._abandon(group)
            raise
        finally:
            self._local.group = None

    def _abandon(self, group: _Group) -> None:
        """Let others go on at once; where no server answers, they do when the lock has expired."""
        if group.begun and not isinstance(sys.exception(), DatabaseAwayError):
            with suppress(JobqError, Refused):
                self._run([], writes=True, group=group)

    def _run(
        self,
        ops: Sequence[Op],
        *,
        writes: bool,
        wakes: bool = False,
        group: _Group | None = None,
        rehearsal: bool = False,
    ) -> Any:
        if (writes or group is not None) and not self._may_write:
            self._check_rights()
        request: dict[str, Any] = {"ops": ops, "version": self.layout, "clock": self._clock}
        if self._born is not None:
            request["born"] = self._born
        if group is not None:
            request |= {"token": group.token, "lock_ms": int(HELD * 1000), "rehearsal": rehearsal}
            request["begun"] = group.begun
            group.begun = True
        if writes and not rehearsal:
            self._local.number += 1
            request |= {
                "writes": True,
                "slot": f"{self._local.slot}{os.getpid()}",  # a fork goes on counting alone
                "number": self._local.number,
                "kept_ms": int(KEPT * 1000),
            }
        script = script_of({verb for verb, _ in ops})
        waits = bool(self.url.replicas) and writes and not rehearsal
        answer = self._unlocked(
            script, _encode(request), writes="number" in request, wakes=wakes, waits=waits
        )
        kind, *told = (item.decode() if isinstance(item, bytes) else item for item in answer[:1])
        if kind == "ok":
            self._note(*answer[2:])
            return answer[1]
        told = [item.decode() if isinstance(item, bytes) else str(item) for item in answer[1:]]
        raise_refused(self.url.shown, kind, *told)
        raise Refused(kind, *told)

    def _check_rights(self) -> None:
        """See that the user may use every command: a script that is refused one has written half.

        Raises:
            DatabaseRefusesError: some are refused.
        """
        if missing := self.run(rights_script(), *in_scripts(self.url.prefix)):
            raise_ours(self.url.shown, lacking(self.url.prefix, missing))
        self._may_write = True

    def _unlocked(
        self, script: Script, request: str, *, writes: bool, wakes: bool, waits: bool
    ) -> Any:
        """The answer once no group of somebody else is in the way."""
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._sent(
                lambda: self._send(script, request, wakes=wakes, waits=waits), writes=writes
            )
            if answer[0] != b"locked":
                return answer
            if time.monotonic() > deadline:
                raise DatabaseLockedError(f"{self.url.shown}: another process keeps it locked")
            time.sleep(random.uniform(0.0005, 0.003))  # noqa: S311 - so that waiters do not march

    def _sent(self, send: Any, *, writes: bool = False) -> Any:
        """Send something until it is answered. A script that has run does not run again for it."""
        silence = arrived = False
        for pause in (*AGAIN, None):
            try:
                return send()
            except (RedisError, RedisClusterException, OSError) as error:
                silent = isinstance(error, NoAnswerError)
                arrived = arrived or may_have_arrived(error)
                if isinstance(error, MovedError):
                    self._become_cluster()
                elif is_lost(error) and pause is not None and not (silent and silence):
                    time.sleep(pause)
                else:
                    self._may_write = False  # what was allowed may not be any more
                    error = explained(self.client, self.url.prefix, error)
                    raise_ours(self.url.shown, error, may_be_done=writes and arrived)
                silence = silent
        raise AssertionError

    def _send(self, script: Script, request: str, *, wakes: bool, waits: bool) -> Any:
        rest = (1, self.url.prefix + "meta", request)
        try:
            return self._answer(("EVALSHA", script.sha, *rest), wakes=wakes, waits=waits)
        except NoScriptError:
            return self._answer(("EVAL", script.source, *rest), wakes=wakes, waits=waits)

    def _answer(self, command: tuple[Any, ...], *, wakes: bool, waits: bool) -> Any:
        """The answer to a command; ``wakes``: listeners hear of it before the caller does.

        The server writes to those first who got something to read last. A small answer before the
        script's own puts the caller behind the listeners, without another round trip.
        """
        if self._is_cluster or not (wakes or waits):
            return self.client.execute_command(*command)
        with self.client.pipeline(transaction=False) as pipe:
            if wakes:
                pipe.exists(self.url.prefix + "meta")
            pipe.execute_command(*command)
            if waits:  # on the same connection: it asks for what this one has written
                pipe.execute_command("WAIT", self.url.replicas, int(self._timeout * 500))
            answers = pipe.execute(raise_on_error=False)
        for each in answers:
            if isinstance(each, Exception):
                raise each
        if waits and answers[-1] < self.url.replicas:
            raise self._too_few(answers[-1])
        return answers[wakes]

    def _too_few(self, replicas: int) -> DatabaseUnreachableError:
        return DatabaseUnreachableError(
            f"{self.url.shown}: {replicas} of {self.url.replicas} replicas had it in time: it is "
            "stored on the primary alone, and lost if that is lost: see that replicas follow, or "
            "ask for fewer in wait="
        )
