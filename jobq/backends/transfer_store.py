"""The part of a backend by which `jobq migrate` moves everything to another store."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

from jobq.backends.messages import History, Setup
from jobq.models import KnownKey


class TransferStore(ABC):
    """Import and migration: keys of imported jobs, and filling a store from another one."""

    @abstractmethod
    def place(self) -> str:
        """Return the identity of the store: the same by whatever name it was opened."""

    @abstractmethod
    def setup(self) -> Setup:
        """Return all that is kept besides jobs and supervisors, read at one moment."""

    @abstractmethod
    def histories(self, *, after_id: int, limit: int) -> list[History]:
        """Return up to ``limit`` jobs in ascending order of id, with all that is kept of them."""

    @abstractmethod
    def known_keys(self, keys: Collection[str]) -> dict[str, KnownKey]:
        """Return those import keys that have a job. Deleting a job forgets its keys."""

    @abstractmethod
    def begin_filling(self, source: str, *, restart: bool = False) -> int:
        """Lock an empty store for filling; return the id up to which it has been filled.

        From here to `end_filling`, every other process that opens the store, or has it open, gets
        `HalfFilledError`, even if the process that fills it is killed. Beginning again with the
        same source resumes; with ``restart``, it starts from nothing, whatever the source was.

        Raises:
            WrongState: the store has jobs or schedules, a supervisor is alive in it, or it is half
                filled from another source; nothing is changed.
        """

    @abstractmethod
    def load(self, histories: Sequence[History]) -> None:
        """Store jobs exactly as they are, with all that is kept of them, in ascending order of id.

        Jobs up to the id that the store has been filled to are there already, and left alone.
        """

    @abstractmethod
    def load_setup(self, setup: Setup) -> None:
        """Replace all that is kept besides jobs."""

    @abstractmethod
    def end_filling(self) -> None:
        """Unlock the store."""
