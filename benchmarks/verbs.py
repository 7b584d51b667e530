"""Row 8: the cost of each verb beside a long history."""

from collections.abc import Callable, Iterator

from benchmarks.harness import alternate, typical
from benchmarks.history import filled
from benchmarks.results import Result, compared
from benchmarks.scale import Bench
from jobq import Claim, JobQueue

_TIMES = 20


class Verbs:
    """The verbs on one queue; each can be called again and again."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._claims: list[Claim] = []

    def add(self) -> None:
        self._queue.add("shell", {"argv": ["true"]})

    def claim(self) -> None:
        claim = self._queue.claim(owner="benchmark")
        assert claim
        self._claims.append(claim)

    def finish(self) -> None:
        assert self._queue.complete(self._claims.pop())

    def list(self) -> None:
        assert self._queue.find(limit=50, newest=True)

    def all(self) -> dict[str, Callable[[], None]]:
        """Return the verbs in an order in which each finds the jobs that it needs."""
        return {"add": self.add, "claim": self.claim, "finish": self.finish, "list": self.list}


def beside_history(bench: Bench) -> Iterator[Result]:
    """Measure row 8: add, claim, list and finish, in a small table and in a large one."""
    finished, scheduled = bench.scale.finished, bench.scale.scheduled
    small = filled(bench.project("small"), 1_000, 0)
    with bench.big().queue() as many, small.queue() as few:
        large_verbs, small_verbs = Verbs(many).all(), Verbs(few).all()
        sides = [
            typical(verbs[name], _TIMES)
            for name in large_verbs
            for verbs in (large_verbs, small_verbs)
        ]
        samples = [sample.scaled(1e6) for sample in alternate(bench.scale.rounds, *sides)]
    against = "1,000 finished"
    for place, name in enumerate(large_verbs):
        what = f"{name}, {finished:,} finished and {scheduled:,} scheduled"
        large, little = samples[2 * place : 2 * place + 2]
        yield compared(8, what, "µs", large, against, little, target=1.2)
