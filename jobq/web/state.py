"""`Server`: what the requests of one server share."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from starlette.requests import HTTPConnection

from jobq.clock import utcnow
from jobq.config.settings import Serve, Settings
from jobq.queue import JobQueue, backend_of
from jobq.units import Rate
from jobq.web.audit import Audit
from jobq.web.claiming import Claiming
from jobq.web.figures import Figures
from jobq.web.light_jobs import LightJobs
from jobq.web.log_reader import LineIndexes
from jobq.web.metrics import Metrics
from jobq.web.rates import RateLimiter
from jobq.web.streams import Streams
from jobq.web.tokens import TokenStore
from jobq.web.wakeups import Wakeups
from jobq.web.work import Work

FAILED_LOGINS = Rate(5, 60.0)
"""Failed attempts to authenticate, of one address."""


@dataclass(slots=True, kw_only=True)
class Server:
    """The queue, and everything around it, that handlers use."""

    queue: JobQueue
    tokens: TokenStore
    audit: Audit
    work: Work
    claiming: Claiming
    streams: Streams
    rates: RateLimiter
    failures: RateLimiter  # by address
    light_jobs: LightJobs
    metrics: Metrics
    figures: Figures
    line_indexes: LineIndexes = field(default_factory=LineIndexes)
    started_at: datetime = field(default_factory=utcnow)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server shuts down: streams and long polls end."""

    @property
    def settings(self) -> Settings:
        """The settings of the queue."""
        return self.queue.settings

    @property
    def serve(self) -> Serve:
        """The settings of the server."""
        return self.queue.settings.serve


def create_server(queue: JobQueue) -> Server:
    """Return the shared state of a server.

    Raises:
        ConfigError: the key is too short, or others may read it.
        OSError: `serve/` can't be written.
    """
    tokens = TokenStore(queue.settings)
    tokens.open()
    serve = queue.settings.serve
    work = Work(queue, serve.threads)
    audit = Audit(tokens.folder)
    wakeups = Wakeups(queue, work)
    streams = Streams(queue, work, tokens, wakeups)
    metrics = Metrics(queue, audit, lambda: streams.count)
    return Server(
        queue=queue,
        tokens=tokens,
        audit=audit,
        work=work,
        claiming=Claiming(queue, work, wakeups),
        streams=streams,
        rates=RateLimiter(serve.rate, 2 * serve.rate.count),
        failures=RateLimiter(FAILED_LOGINS, FAILED_LOGINS.count),
        light_jobs=LightJobs(queue.settings.redactor),
        metrics=metrics,
        figures=Figures(backend_of(queue).lists, queue.now(), metrics.count_end),
    )


def get_server(request: HTTPConnection) -> Server:
    """Return the server of a request."""
    server = request.app.state.server
    assert isinstance(server, Server)
    return server
