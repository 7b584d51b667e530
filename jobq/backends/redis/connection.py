"""Calls to a Redis server: one script each, with answers that survive a lost connection; groups."""

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

from jobq.backends.redis.acl import explain, missing_rights, script_probes
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

ANSWER_TIMEOUT_S = 5.0
"""Default of the longest time that a connection, or an answer, may take."""

RETRY_PAUSES_S = (0.0, 0.05, 0.2)
"""Pauses before a call is repeated whose connection was lost. After a timeout it is repeated once."""

ANSWER_TTL_S = 120.0
"""Time for which the server remembers its last answer to a client."""

GROUP_LOCK_S = 5.0
"""Longest silence of a group before its lock expires and other writers go on."""

GROUP_WAIT_S = 30.0
"""Longest wait of a call for the group of another client."""

_encode = json.JSONEncoder(separators=(",", ":")).encode

Op = tuple[str, dict[str, Any]]


class Refused(Exception):
    """A verb changed nothing, for a reason; never raised out of the backend."""

    def __init__(self, kind: str, *details: str) -> None:
        super().__init__(kind, *details)
        self.kind = kind
        self.details = details


@dataclass(slots=True)
class _Group:
    """The verbs of a group so far, and the token of the lock that makes other writers wait."""

    token: str = field(default_factory=lambda: uuid4().hex)
    ops: list[Op] = field(default_factory=list)
    begun: bool = False
    micros: int | None = None  # the server's time at the first verb, which is that of all others


class _Local(threading.local):
    """State of each thread: its group, and the slot of its last answer on the server."""

    def __init__(self) -> None:
        self.group: _Group | None = None
        self.slot = uuid4().hex[:16]
        self.number = 0


class RedisConnection:
    """A server, for any number of threads; it may be carried across a fork."""

    def __init__(
        self, url: RedisUrl, *, clock: str = "server", timeout: float = ANSWER_TIMEOUT_S
    ) -> None:
        self.url = url
        self._timeout = timeout if url.timeout is None else min(timeout, url.timeout)
        self._first_timeout = self._timeout
        self.layout = LAYOUT
        self._clock = clock
        self._making = threading.Lock()  # two clients would close each other's connections
        self._client: Any = None
        self._first: Any = None
        self._is_cluster = False
        self._local = _Local()
        self._clock_lead: timedelta | None = None if clock == "server" else timedelta()
        self._may_write = False  # rights were checked
        self._born: str | None = None  # identity of the store, once something is held in it

    # -- the client ------------------------------------------------------------------------

    @property
    def client(self) -> Any:
        """The client of redis-py, whose pool gives every thread and process its own connections."""
        if self._client is None:
            with self._making:
                self._client = self._client or self._create_client()
        return self._client

    def _create_client(self) -> Any:
        try:
            client = redis.Redis.from_url(self.url.server, **self._options())
            pool = client.connection_pool
            pool.connection_class(**pool.connection_kwargs)  # which checks the options
        except (TypeError, ValueError, RedisError) as error:
            raise ConfigError(f"backend {self.url.shown}: {error}") from None
        return client

    def _options(self) -> dict[str, Any]:
        keeps = {} if self.url.server.startswith("unix:") else {"socket_keepalive": True}
        return keeps | {
            "socket_timeout": self._timeout,
            "socket_connect_timeout": self._timeout,
            "retry": Retry(NoBackoff(), 0),  # only `_sent` may repeat what may have been executed
            "protocol": 2,
        }

    def _become_cluster(self) -> None:
        """Continue with a client that finds the node that has the keys."""
        with self._making:
            if not self._is_cluster:
                if self.url.replicas:
                    raise ConfigError(
                        f"backend {self.url.shown}: wait= does not work with a cluster"
                    )
                options = self._options() | {"retry": Retry(NoBackoff(), 3)}
                self._first = self._client  # other threads may still be using it
                self._client = redis.RedisCluster.from_url(self.url.server, **options)
                self._is_cluster = True

    def limit_waits(self, seconds: float | None) -> None:
        """Wait no longer than this for an answer, from here on; None: as at first."""
        limit = self._first_timeout if seconds is None else min(seconds, self._first_timeout)
        if limit != self._timeout:
            self._timeout = limit
            self.close()  # the next client has the new limit

    def close(self) -> None:
        for client in (self._client, self._first):
            if client is not None:
                with suppress(RedisError, OSError):
                    client.close()
        self._client = self._first = None
        self._is_cluster = False

    def hold_store(self) -> None:
        """Refuse, from here on, a server that is another one than at the next answer, or emptied."""
        self._born = self._born or ""

    def listener(self, lock: int) -> RedisListener:
        """Return a subscription to wake-ups, for the owner of the lock."""
        channel = self.url.prefix + "wake"
        self.hold_store()
        try:
            return RedisListener(self.client, channel, lock)
        except (RedisError, OSError) as error:
            os.close(lock)
            raise_ours(self.url.shown, error)

    def clock_lead(self) -> timedelta:
        """Return how far the server's clock was ahead of this host's at its last answer."""
        if self._clock_lead is None:
            seconds, micros = self.ask("TIME")
            self._note_time(int(seconds) * 1_000_000 + int(micros))
        return self._clock_lead or timedelta()

    def _note(self, micros: bytes | None = None, born: bytes | None = None) -> None:
        """Record time and identity of the server, which come with each new answer."""
        if micros is not None:
            self._note_time(int(micros))
        if born is not None:
            self._born = born.decode()

    def _note_time(self, micros: int) -> None:
        self._clock_lead = to_moment(micros) - utcnow()

    def ask(self, *command: Any) -> Any:
        """Return the answer to a plain command that changes nothing."""
        return self._sent(lambda: self.client.execute_command(*command))

    def run(self, script: Script, *arguments: Any) -> Any:
        """Return the answer of a script that is not a verb. It may run twice."""
        return self._sent(lambda: self._evaluated(script, *arguments))

    def _evaluated(self, script: Script, *arguments: Any) -> Any:
        meta = self.url.prefix + "meta"
        try:
            return self.client.evalsha(script.sha, 1, meta, *arguments)
        except NoScriptError:
            return self.client.eval(script.source, 1, meta, *arguments)

    def keys(self, prefix: str, batch_size: int) -> Iterator[list[bytes]]:
        """Yield the names of all keys with a prefix, in batches."""
        found = iter(self.client.scan_iter(match=f"{prefix}*", count=batch_size))
        try:
            while keys := list(islice(found, batch_size)):
                yield keys
        except (RedisError, OSError) as error:
            raise_ours(self.url.shown, error)

    # -- calls -----------------------------------------------------------------------------

    def read(self, verb: str, **arguments: Any) -> Any:
        """Return the answer of a verb that changes nothing."""
        return self._call((verb, arguments), writes=False, wakes=False)

    def write(self, verb: str, *, wakes: bool = False, **arguments: Any) -> Any:
        """Return the answer of a verb that makes changes; ``wakes``: it wakes listeners, too.

        Raises:
            JobqError: it was refused, and changed nothing.
            Refused: so was `begin_filling`.
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
        """Rehearse the verbs inside, one by one, while other writers wait; execute all at the end.

        A rehearsal executes the earlier verbs again, then the new one, and undoes all of it: so each
        verb sees the effects of those before it, and no other client does. The clock stands still
        from the first verb on: times that a rehearsal answered with are those that are stored.
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
        """Release the group's lock now; if the server does not answer, the lock expires."""
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
            request |= {
                "token": group.token,
                "lock_ms": int(GROUP_LOCK_S * 1000),
                "rehearsal": rehearsal,
            }
            request["begun"] = group.begun
            group.begun = True
            if group.micros is not None:
                request["micros"] = group.micros
        if writes and not rehearsal:
            self._local.number += 1
            request |= {
                "writes": True,
                "slot": f"{self._local.slot}{os.getpid()}",  # a fork counts on its own
                "number": self._local.number,
                "kept_ms": int(ANSWER_TTL_S * 1000),
            }
        script = script_of({verb for verb, _ in ops})
        waits = bool(self.url.replicas) and writes and not rehearsal
        answer = self._unlocked(
            script, _encode(request), writes="number" in request, wakes=wakes, waits=waits
        )
        kind = answer[0].decode()
        if kind == "ok":
            micros, born = (*answer[2:], None, None)[:2]
            self._note(None if "micros" in request else micros, born)
            if group is not None and micros is not None:
                group.micros = int(micros)
            return answer[1]
        details = [item.decode() if isinstance(item, bytes) else str(item) for item in answer[1:]]
        raise_refused(self.url.shown, kind, *details)
        raise Refused(kind, *details)

    def _check_rights(self) -> None:
        """Check that the user may use every command: a script that is refused one has half written.

        Raises:
            DatabaseRefusesError: some are refused.
        """
        if missing := self.run(rights_script(), *script_probes(self.url.prefix)):
            raise_ours(self.url.shown, missing_rights(self.url.prefix, missing))
        self._may_write = True

    def _unlocked(
        self, script: Script, request: str, *, writes: bool, wakes: bool, waits: bool
    ) -> Any:
        """Return the answer once no group of another client holds the lock."""
        deadline = time.monotonic() + GROUP_WAIT_S
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
        """Send until there is an answer. The server executes a repeated script only once."""
        timed_out = arrived = False
        for pause in (*RETRY_PAUSES_S, None):
            try:
                return send()
            except (RedisError, RedisClusterException, OSError) as error:
                is_timeout = isinstance(error, NoAnswerError)
                arrived = arrived or may_have_arrived(error)
                if isinstance(error, MovedError):
                    self._become_cluster()
                elif is_lost(error) and pause is not None and not (is_timeout and timed_out):
                    time.sleep(pause)
                else:
                    self._may_write = False  # rights may have been taken away
                    error = explain(self.client, self.url.prefix, error)
                    raise_ours(self.url.shown, error, may_be_done=writes and arrived)
                timed_out = is_timeout
        raise AssertionError

    def _send(self, script: Script, request: str, *, wakes: bool, waits: bool) -> Any:
        rest = (1, self.url.prefix + "meta", request)
        try:
            return self._answer(("EVALSHA", script.sha, *rest), wakes=wakes, waits=waits)
        except NoScriptError:
            return self._answer(("EVAL", script.source, *rest), wakes=wakes, waits=waits)

    def _answer(self, command: tuple[Any, ...], *, wakes: bool, waits: bool) -> Any:
        """Return the answer to a command; ``wakes``: listeners are woken before the caller gets it.

        The server first writes to the clients whose output was queued last. A small answer before
        the script's own puts the caller behind the listeners, without another round trip.
        """
        if self._is_cluster or not (wakes or waits):
            return self.client.execute_command(*command)
        with self.client.pipeline(transaction=False) as pipe:
            if wakes:
                pipe.exists(self.url.prefix + "meta")
            pipe.execute_command(*command)
            if waits:  # on the same connection: WAIT is about its own writes
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
            f"{self.url.shown}: {replicas} of {self.url.replicas} replicas have the change in "
            "time: it is stored on the primary alone, and lost with it: check the replicas, or ask "
            "for fewer in wait="
        )
