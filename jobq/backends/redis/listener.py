"""Wake-ups of supervisors that wait for work on a Redis server."""

import os
import select
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from jobq.backends.base import Listener


class RedisListener(Listener):
    """A subscription on its own connection, and the lock that shows that the owner is alive.

    The descriptor stays the same when the connection is replaced.
    """

    def __init__(self, client: Any, channel: str, lock: int) -> None:
        self._client = client
        self._channel = channel
        self._lock = lock
        self._poll = select.epoll()
        self._subscription: Any = None
        self._subscribe()

    def _subscribe(self) -> None:
        subscription = self._client.pubsub(ignore_subscribe_messages=False)
        subscription.subscribe(self._channel)
        subscription.get_message(timeout=5.0)  # the confirmation
        # There is no public way to the descriptor.
        self._socket = subscription.connection._sock.fileno()  # noqa: SLF001
        self._poll.register(self._socket, select.EPOLLIN)
        self._subscription = subscription

    @property
    def closed(self) -> bool:
        """True once it has stopped listening."""
        return self._poll.closed

    def fileno(self) -> int:
        return self._poll.fileno()

    def drain(self) -> None:
        if self._subscription is None:
            return
        try:
            while self._subscription.get_message(timeout=0.0) is not None:
                pass
        except (RedisError, OSError):
            self._lose()

    def _lose(self) -> None:
        """Drop the lost connection: wake-ups are missed until `renew` has made another."""
        subscription, self._subscription = self._subscription, None
        with suppress(OSError):  # a closed descriptor has left the poll by itself
            self._poll.unregister(self._socket)
        with suppress(RedisError, OSError):
            subscription.close()

    def renew(self) -> None:
        """Subscribe again if the connection was lost; failure is not an error."""
        if self._subscription is None and not self.closed:
            with suppress(RedisError, OSError):
                self._subscribe()

    def close(self) -> None:
        if self._subscription is not None:
            with suppress(RedisError, OSError):
                self._subscription.close()
            self._subscription = None
        self._poll.close()
        os.close(self._lock)
