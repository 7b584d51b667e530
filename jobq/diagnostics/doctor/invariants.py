"""The check of the invariants of stored jobs, as `jobq verify` does it."""

from collections.abc import Iterator

from jobq.config.settings import SQLITE
from jobq.diagnostics.doctor.finding import Examination, Finding, ok, problem
from jobq.diagnostics.verify import verify_queue
from jobq.queue import JobQueue


def check_invariants(examined: Examination, queue: JobQueue) -> Iterator[Finding]:
    """Find violations, including damage to the database."""
    settings = examined.settings
    where, remedy = settings.backend_shown, "report a bug with the output of `jobq verify --json`"
    if settings.backend == SQLITE:
        where, remedy = str(settings.database), f"restore a backup, or {remedy}"
    found = verify_queue(queue, thorough=examined.full)
    for violation in found.violations:
        about = "" if violation.job_id is None else f"job {violation.job_id}: "
        yield problem("invariants", where, f"{about}{violation.message}", remedy)
    if not found.violations:
        what = f"no violations in {found.jobs:,} jobs and {found.attempts:,} attempts"
        yield ok("invariants", where, what)
