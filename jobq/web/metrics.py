"""`Metrics`: what `/metrics` tells Prometheus. No label has an id, a name or an argument."""

import threading
import time
from collections import Counter as Counts
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from jobq.backends.lists import EndedJob
from jobq.clock import utcnow
from jobq.models import JobStatus
from jobq.queue import JobQueue, backend_of
from jobq.web.audit import Audit
from jobq.web.figures import Kind, Labels

CACHE_S = 5.0
LOG_BYTES_INTERVAL = timedelta(minutes=10)

_SPAN_BUCKETS_S = (
    0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800, 3600, 10800, 43200, 86400,
)  # fmt: skip
_KIND = Kind._fields
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_Values = Mapping[tuple[str, ...], float]


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(
        self, queue: JobQueue, audit: Audit, streams: Callable[[], int] = lambda: 0
    ) -> None:
        """Take the queue, the audit log, and the number of open streams."""
        self.streams = streams
        self.audit = audit
        self._registry = CollectorRegistry(auto_describe=False)
        self._finished = self._counter(
            "jobq_jobs_finished", "Jobs that ended since the server started.", (*_KIND, "outcome")
        )
        self._wait = self._histogram(
            "jobq_job_wait_seconds", "From being added to the start of the last attempt.", _KIND
        )
        self._run = self._histogram("jobq_job_run_seconds", "Length of the last attempt.", _KIND)
        self._requests = self._counter(
            "jobq_http_requests", "Requests that were answered.", ("route", "method", "status")
        )
        self._request_seconds = Histogram(
            "jobq_http_request_seconds",
            "Time until an answer was sent; streams and long polls included.",
            ("route",),
            registry=self._registry,
        )
        self.log_bytes = LogBytes(queue)
        self._registry.register(_Gauges(self, queue))
        self._text = b""
        self._expires_at = 0.0
        self._lock = threading.Lock()

    def _counter(self, name: str, help_text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(name, help_text, labels, registry=self._registry)

    def _histogram(self, name: str, help_text: str, labels: tuple[str, ...]) -> Histogram:
        return Histogram(name, help_text, labels, registry=self._registry, buckets=_SPAN_BUCKETS_S)

    def count_end(self, kind: Kind, ended: EndedJob) -> None:
        """Count a job that has ended."""
        self._finished.labels(*kind, ended.status.value).inc()
        if ended.waited is not None:
            self._wait.labels(*kind).observe(max(0.0, ended.waited))
        if ended.ran is not None:
            self._run.labels(*kind).observe(max(0.0, ended.ran))

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request that was answered; 0 stands for one whose client had left."""
        known = method if method in _METHODS else "other"
        self._requests.labels(route, known, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def text(self, update: Callable[[], object]) -> bytes:
        """Return the metrics as text; ``update`` is called first, unless they are cached.

        Raises:
            DatabaseError: the jobs can't be read.
        """
        with self._lock:
            if time.monotonic() >= self._expires_at:
                update()
                self._text = generate_latest(self._registry)
                self._expires_at = time.monotonic() + CACHE_S
            return self._text


class LogBytes:
    """The size of all logs, which takes a look at every directory: measured in a thread."""

    def __init__(self, queue: JobQueue) -> None:
        self.value: int | None = None  # None: not measured yet
        self._logs = queue.logs
        self._begun_at = utcnow() - LOG_BYTES_INTERVAL

    def refresh(self) -> threading.Thread | None:
        """Begin to measure it again in a thread, which is returned, unless that was done lately."""
        now = utcnow()
        if abs(now - self._begun_at) >= LOG_BYTES_INTERVAL:
            self._begun_at = now
            thread = threading.Thread(target=self._measure, name="log-bytes", daemon=True)
            thread.start()
            return thread
        return None

    def _measure(self) -> None:
        try:
            self.value = self._logs.total_bytes() if self._logs.root.is_dir() else 0
        except OSError:
            self.value = None


class _Gauges(Collector):
    """What is so now: read from the backend for each scrape."""

    def __init__(self, metrics: Metrics, queue: JobQueue) -> None:
        self._queue = queue
        self._metrics = metrics
        self._labels = Labels()

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        yield from self._of_jobs()
        yield self._paused()
        yield self._slots()
        self._metrics.log_bytes.refresh()
        if (size := self._metrics.log_bytes.value) is not None:
            yield _gauge("jobq_log_bytes", "Size of all logs.", {(): float(size)})
        yield _gauge(
            "jobq_streams", "Streams of events that are open.", {(): float(self._metrics.streams())}
        )
        lost = CounterMetricFamily(
            "jobq_audit_lost_lines", "Lines that could not be written to the audit log."
        )
        lost.add_metric((), self._metrics.audit.lost_lines)
        yield lost
        build: _Values = {(version("jobq"), self._queue.settings.backend.partition(":")[0]): 1}
        yield _gauge("jobq_build_info", "The version of jobq.", build, "version", "backend")

    def _of_jobs(self) -> Iterator[GaugeMetricFamily]:
        jobs: Counts[tuple[str, ...]] = Counts()
        ages: dict[tuple[str, ...], float] = {}
        now = self._queue.now()
        for queue, counts in self._queue.counts_by_queue().items():
            label = self._labels.of(queue)
            for status in JobStatus:
                jobs[label, status.value] += counts.get(status, 0)
            if counts.get(JobStatus.PENDING):
                age = oldest_ready_age(self._queue, queue, now.timestamp()) or 0.0
                ages[label,] = max(age, ages.get((label,), 0.0))
        yield _gauge("jobq_jobs", "Jobs by queue and state.", jobs, "queue", "state")
        dead = {key[:1]: n for key, n in jobs.items() if key[1] == JobStatus.FAILED}
        yield _gauge("jobq_dead_jobs", "Jobs in the dead letter queue.", dead, "queue")
        yield _gauge(
            "jobq_queue_oldest_ready_age_seconds",
            "Time for which the first pending job has been ready.",
            ages,
            "queue",
        )

    def _paused(self) -> GaugeMetricFamily:
        paused: Counts[tuple[str, ...]] = Counts()
        for queue in self._queue.queues():
            label = self._labels.of(queue.name)
            paused[label,] = max(paused[label,], int(queue.paused))
        return _gauge("jobq_queue_paused", "1 if a queue is paused.", paused, "queue")

    def _slots(self) -> GaugeMetricFamily:
        alive = {each.id: each.slots for each in self._queue.supervisors()}
        attempts = backend_of(self._queue).open_attempts()
        busy = sum(attempt.supervisor in alive for _, attempt in attempts)
        slots: _Values = {
            ("busy",): busy,
            ("idle",): max(0, sum(alive.values()) - busy),
        }
        return _gauge("jobq_worker_slots", "Slots of supervisors.", slots, "state")


def oldest_ready_age(queue: JobQueue, name: str, now: float) -> float | None:
    """Return for how many seconds the first pending job of a queue has been ready; None: none."""
    found = queue.find(queue=name, status=JobStatus.PENDING, limit=1)
    if not found:
        return None
    job = found[0]
    return max(0.0, now - max(job.created_at, job.run_at or job.created_at).timestamp())


def _gauge(name: str, help_text: str, values: _Values, *labels: str) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
