"""The verbs of a `JobQueue` on queues: create, change, pause and delete them."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from jobq.backends.base import Backend
from jobq.config.settings import Settings
from jobq.errors import UsageError, WrongState
from jobq.jobs.queue_limits import UNUSED_DEFAULT, effective_queue, with_limits
from jobq.jobs.validation import checked_shape
from jobq.models import DEFAULT_QUEUE, QUEUE_NAME, Queue

if TYPE_CHECKING:
    from typing import Unpack

    from jobq.options import QueueLimits


class QueueAdmin:
    """Administration of queues and their limits."""

    settings: Settings
    _backend: Backend

    def queues(self) -> list[Queue]:
        """Return every queue, with those of jobq.toml that have not been used yet."""
        used = [queue for queue in self._backend.queues() if queue != UNUSED_DEFAULT]
        names = {queue.name for queue in used}
        configured = {DEFAULT_QUEUE: UNUSED_DEFAULT, **self.settings.queues}
        unused = [queue for name, queue in configured.items() if name not in names]
        return sorted(used + unused, key=lambda queue: (-queue.priority, queue.name))

    def queue(self, name: str) -> Queue:
        """Return a queue by its name.

        Raises:
            NotFound: there is none.
        """
        checked_shape("queue", name)
        return effective_queue(name, self._stored([name]), self.settings)

    def create_queue(self, name: str, **limits: "Unpack[QueueLimits]") -> Queue:
        """Create a queue, with the fields of `Queue`.

        Raises:
            UsageError: a name or a limit is wrong.
            WrongState: there is one of that name.
        """
        if not QUEUE_NAME.fullmatch(checked_shape("queue", name)):
            raise UsageError(f"queue name {name!r:.80}: use letters, digits, '.', '_' and '-'")
        with self._backend.group():
            if self._stored([name]):
                raise WrongState(f"queue {name!r} is there already: see `jobq queue set`")
            queue = with_limits(Queue(name=name), limits)
            self._backend.put_queues([queue])
        return queue

    def set_queue(self, name: str, **limits: "Unpack[QueueLimits]") -> Queue:
        """Change the fields of a queue that are given.

        Raises:
            NotFound: there is no such queue.
            UsageError: a limit is wrong.
        """
        with self._backend.group():
            queue = with_limits(self.queue(name), limits)
            self._backend.put_queues([queue])
        return queue

    def pause(self, name: str) -> Queue:
        """Start nothing from a queue until it is resumed; what runs goes on."""
        return self.set_queue(name, paused=True)

    def resume(self, name: str) -> Queue:
        """Let a paused queue go on."""
        return self.set_queue(name, paused=False)

    def delete_queue(self, name: str) -> None:
        """Delete a queue without jobs.

        Raises:
            NotFound: there is no such queue.
            WrongState: it has jobs, or is the default one.
        """
        self._backend.delete_queue(checked_shape("queue", name))

    def apply_configured_queues(self) -> None:
        """Give the queues of jobq.toml the limits set there; a paused queue stays paused."""
        with self._backend.group():
            stored = self._stored(None)
            wanted = [
                replace(queue, paused=stored[name].paused) if name in stored else queue
                for name, queue in self.settings.queues.items()
                if queue != UNUSED_DEFAULT
            ]
            changed = [queue for queue in wanted if stored.get(queue.name) != queue]
            if changed:
                self._backend.put_queues(changed)

    def _stored(self, names: Iterable[str] | None) -> dict[str, Queue]:
        names = None if names is None else list(names)
        return {queue.name: queue for queue in self._backend.queues(names)}
