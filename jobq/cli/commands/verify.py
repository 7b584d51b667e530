"""``jobq verify``: check the database for contradictions."""

from typing import Annotated

from jobq.cli.context import Cli
from jobq.cli.parsing.declarations import Context, option
from jobq.cli.parsing.options import AsJson
from jobq.cli.rendering.output import count_of, note, print_json
from jobq.diagnostics.verify import Verification, Violation
from jobq.inert import inert

_MAX_SHOWN = 20


def command(
    ctx: Context,
    thorough: Annotated[
        bool, option("--thorough", help="Also read the whole database for damage.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Check every job and its history for contradictions; exit with 1 if there are any.

    Examples:
        jobq verify
        jobq verify --thorough --json
    """
    cli: Cli = ctx.obj
    from jobq.diagnostics.verify import verify_queue

    with cli.queue() as queue:
        found = verify_queue(queue, thorough=thorough)
    if as_json:
        print_json(_document(found))
    else:
        _print(found)
    return int(bool(found.violations))


def _print(found: Verification) -> None:
    for violation in found.violations[:_MAX_SHOWN]:
        print(inert(_line(violation)))
    if len(found.violations) > _MAX_SHOWN:
        print(f"and {len(found.violations) - _MAX_SHOWN} more (`jobq verify --json` lists all)")
    for queue, running in found.over_limits:
        note(
            f"queue {queue.name}: {running} jobs are running, and its limit is "
            f"{queue.max_concurrent}: correct only if the limit was lowered while they ran"
        )
    wrong = count_of(len(found.violations), "violation") if found.violations else "nothing wrong"
    print(f"{count_of(found.jobs)}, {count_of(found.attempts, 'attempt')}: {wrong}")


def _line(violation: Violation) -> str:
    where = violation.rule if violation.job_id is None else f"job {violation.job_id}"
    return f"{where}: {violation.message}"


def _document(found: Verification) -> dict[str, object]:
    return {
        "jobs": found.jobs,
        "attempts": found.attempts,
        "violations": [
            {"rule": each.rule, "job": each.job_id, "message": each.message}
            for each in found.violations
        ],
        "over_limits": [
            {"queue": queue.name, "max_concurrent": queue.max_concurrent, "running": running}
            for queue, running in found.over_limits
        ],
    }
