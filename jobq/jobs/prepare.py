"""Jobs as they are asked for made jobs as they are stored: checked, every default filled in. No I/O.

Every way in goes through here: `add`, `add_many`, imported rows, schedules. A default comes from
the most specific place that has one: the job, its type in jobq.toml, its worker class, its queue,
its priority.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from jobq.config.settings import Settings
from jobq.errors import ArgsError, JobqError, NotFound, UsageError
from jobq.job_types import shell
from jobq.jobs.queue_limits import effective_queue
from jobq.jobs.spec import CONDITIONS, JobSpec, given_fields
from jobq.jobs.validation import (
    checked_args,
    checked_moment,
    checked_number,
    checked_refs,
    checked_shape,
    checked_tags,
    checked_text,
    checked_unique,
)
from jobq.models import DEFAULT_QUEUE, Condition, JsonObject, NewJob, ParentRef, Queue
from jobq.units import Priority, parse_duration, parse_limit, parse_priority

if TYPE_CHECKING:
    from jobq.job_types.registry import JobType

_LIMIT_RULES: Mapping[str, Callable[[Any], Any]] = {
    "priority": parse_priority,
    "timeout": parse_limit,
    "max_retries": partial(checked_number, "retries", least=0),
    "retry_base": parse_duration,
}
_LIMITS = {"type", "queue", *_LIMIT_RULES}
_OWN_RULES: Mapping[str, Callable[[Any], Any]] = {
    "name": partial(checked_text, "name"),
    "unique": checked_unique,
    "tags": checked_tags,
    "added_by": partial(checked_number, "added_by", least=1),
    "at": checked_moment,
    "delay": parse_duration,
    **{field: partial(checked_refs, field) for field in CONDITIONS},
}
_MAX_REMEMBERED_LIMITS = 1000


class PreparedJobs(NamedTuple):
    """Jobs that are good to insert."""

    jobs: Sequence[NewJob]
    order: Sequence[int]  # their places, parents before children
    unused_queues: Sequence[Queue]  # those of jobq.toml that they are the first to use
    paused_queues: Sequence[str] = ()  # in which they will wait


class InvalidJob(Exception):
    """A job that can't be added: its fields, and what is wrong with each."""

    def __init__(self, errors: Sequence[tuple[str, JobqError]]) -> None:
        super().__init__(errors)
        self.errors = errors


class Limits(NamedTuple):
    """The limits of a job, with what it leaves open filled in: many jobs have the same."""

    job_type: "JobType"
    fields: Mapping[str, Any]  # of `NewJob`
    given: tuple[Any, ...]  # type, queue, priority, timeout, retries and retry_base, as given


def prepare(
    specs: Sequence[JobSpec],
    job_types: "Callable[[str], JobType]",
    queues: Callable[[Collection[str]], Mapping[str, Queue]],
    settings: Settings,
    now: datetime,
) -> PreparedJobs:
    """Check jobs that are to be added together, and fill in every default.

    ``job_types`` gives the type of a name; ``queues`` those of some names that are stored.

    Raises:
        UsageError: a type, an argument or an option is wrong, or jobs wait for each other in a
            circle.
        NotFound: a queue does not exist.
    """
    names = {checked_shape("queue", spec.queue) for spec in specs}
    places = _places_of_keys(specs)
    stored = queues(names)
    effective = {name: effective_queue(name, stored, settings) for name in names}
    preparer = Preparer(job_types, effective.__getitem__, settings, now)
    jobs = []
    for spec in specs:
        try:
            job, _ = preparer.prepare(given_fields(spec))
        except InvalidJob as invalid:
            raise invalid.errors[0][1] from None
        jobs.append(_with_places(job, places) if job.parents else job)
    unused = [queue for name, queue in effective.items() if queue != stored.get(name)]
    paused = [name for name, queue in effective.items() if queue.paused]
    return PreparedJobs(jobs, _parents_first(jobs), unused, paused)


class Preparer:
    """The rules for one job after the other. The limits that many share are worked out once."""

    def __init__(
        self,
        job_types: "Callable[[str], JobType]",
        queues: Callable[[str], Queue],
        settings: Settings,
        now: datetime,
    ) -> None:
        self._job_types = job_types
        self._queues = queues
        self._settings = settings
        self._now = now
        self._limits: dict[str, Limits] = {}

    def prepare(self, given: Mapping[str, Any]) -> tuple[NewJob, Limits]:
        """Return the job with these fields of `JobSpec`, and its limits.

        Its parents are named as they were given: by id or by key.

        Raises:
            InvalidJob: with all that is wrong.
        """
        errors: list[tuple[str, JobqError]] = []
        limits = self._limits_of(given, errors)
        own: dict[str, Any] = {}
        for field, value in given.items():
            if (rule := _OWN_RULES.get(field)) is not None:
                try:
                    own[field] = rule(value)
                except UsageError as error:
                    errors.append((field, error))
        run_at = self._run_at(own, errors)
        args = self._args(limits, given, errors)
        parents = () if own.keys().isdisjoint(CONDITIONS) else _parents(own, errors)
        if errors or limits is None:
            raise InvalidJob(errors)
        job = NewJob(**limits.fields, args=args, parents=parents, run_at=run_at)
        job.added_by = own.get("added_by")
        job.name, job.unique_key = own.get("name"), own.get("unique")
        if "tags" in own:
            job.tags = {**own["tags"], **job.tags}
        return job, limits

    # -- limits ----------------------------------------------------------------------------

    def _limits_of(
        self, given: Mapping[str, Any], errors: list[tuple[str, JobqError]]
    ) -> Limits | None:
        # As text, since true is 1, but not in words.
        try:
            signature = repr([item for item in given.items() if item[0] in _LIMITS])
        except ValueError:  # an endless number, which is refused
            return self._new_limits(given, errors)
        limits = self._limits.get(signature)
        if limits is None and (limits := self._new_limits(given, errors)):
            if len(self._limits) >= _MAX_REMEMBERED_LIMITS:
                self._limits.clear()
            self._limits[signature] = limits
        return limits

    def _new_limits(
        self, given: Mapping[str, Any], errors: list[tuple[str, JobqError]]
    ) -> Limits | None:
        rules = {"type": self._job_type, "queue": self._queue, **_LIMIT_RULES}
        values: dict[str, Any] = {"priority": int(Priority.NORMAL)}
        for field, rule in rules.items():
            if field not in given and field in _LIMIT_RULES:
                continue
            try:
                values[field] = rule(given.get(field))
            except (UsageError, NotFound) as error:
                errors.append((field, error))
        if errors:
            return None
        job_type, queue = values["type"], values["queue"]
        chosen = [values.get(n) for n in ("priority", "timeout", "max_retries", "retry_base")]
        defaults = self._defaults(values, job_type, queue)
        return Limits(job_type, defaults, (job_type.name, queue.name, *chosen))

    def _defaults(
        self, values: Mapping[str, Any], job_type: "JobType", queue: Queue
    ) -> dict[str, Any]:
        """Return the fields of a job with these limits."""
        worker, settings = job_type.worker, self._settings
        retries = _first(
            values.get("max_retries"), worker and worker.max_retries, queue.max_retries
        )
        if retries is not None:
            checked_number("retries", retries, 0)
        base = _first(values.get("retry_base"), worker and worker.retry_base, settings.retry_base)
        priority = values["priority"]
        # A command has no limit by its priority: most people would not expect one.
        by_priority = (
            0.0 if job_type.name == shell.JOB_TYPE else settings.timeouts.of_priority(priority)
        )
        timeout = _first(
            values.get("timeout"),
            settings.timeouts.types.get(job_type.name),
            worker and worker.timeout,
            queue.timeout,
            by_priority,
        )
        return {
            "type": job_type.name,
            "queue": queue.name,
            "priority": priority,
            "max_retries": settings.max_retries if retries is None else retries,
            "retry_base": parse_duration(base),
            "timeout": parse_limit(timeout) or None,
            "tags": job_type.secret_tag(),
        }

    def _job_type(self, name: Any) -> "JobType":
        return self._job_types(shell.JOB_TYPE if name is None else checked_shape("type", name))

    def _queue(self, name: Any) -> Queue:
        return self._queues(DEFAULT_QUEUE if name is None else checked_shape("queue", name))

    # -- the rest --------------------------------------------------------------------------

    def _args(
        self,
        limits: Limits | None,
        given: Mapping[str, Any],
        errors: list[tuple[str, JobqError]],
    ) -> JsonObject:
        try:
            job_type = limits.job_type if limits else self._job_type(given.get("type"))
        except UsageError:  # reported with the limits
            return {}
        try:
            return parsed_args(job_type, given.get("args", {}), self._settings)
        except UsageError as error:
            errors.append(("args", error))
            return {}

    def _run_at(
        self, own: Mapping[str, Any], errors: list[tuple[str, JobqError]]
    ) -> datetime | None:
        at: datetime | None = own.get("at")
        if "delay" not in own:
            return at
        if at is not None:
            both = UsageError("a job has either a time (at) or a delay, not both")
            errors.append(("delay", both))
        return self._now + timedelta(seconds=own["delay"])


def parsed_args(job_type: "JobType", args: Any, settings: Settings) -> JsonObject:
    """Return the arguments of a job as they are stored.

    Raises:
        ArgsError: they do not fit the type, are too large, or secrets are missing in them.
        UsageError: they are no object.
    """
    try:
        stored = job_type.parse(checked_shape("args", args), settings.redactor)
    except RecursionError:
        raise ArgsError(f"{job_type.name}: the arguments: nested too deep") from None
    return checked_args(job_type.name, stored)


def _parents(own: Mapping[str, Any], errors: list[tuple[str, JobqError]]) -> tuple[ParentRef, ...]:
    conditions: dict[int | str, Condition] = {}
    for field, condition in CONDITIONS.items():
        for ref in own.get(field, ()):
            if conditions.setdefault(ref, condition) is not condition:
                twice = f"parent {ref!r} is named with two conditions: choose one"
                errors.append((field, UsageError(twice)))
    return tuple(
        ParentRef(condition=condition, key=ref)
        if isinstance(ref, str)
        else ParentRef(condition=condition, id=ref)
        for ref, condition in conditions.items()
    )


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


# -- jobs that are added together ----------------------------------------------------------------


def _places_of_keys(specs: Sequence[JobSpec]) -> dict[str, int]:
    places: dict[str, int] = {}
    for place, spec in enumerate(specs):
        key = checked_shape("key", spec.key)
        if key in places:
            raise UsageError(f"key {key!r} is given to two jobs")
        if key is not None:
            places[key] = place
    return places


def _with_places(job: NewJob, places: Mapping[str, int]) -> NewJob:
    """Return the job with the places of parents that were named by a key."""
    refs = []
    for ref in job.parents:
        if ref.key is None:
            refs.append(ref)
        elif (place := places.get(ref.key)) is None:
            raise UsageError(f"no job in this batch has the key {ref.key!r}")
        else:
            refs.append(ParentRef(condition=ref.condition, index=place))
    return replace(job, parents=tuple(refs))


def _parents_first(new: Sequence[NewJob]) -> Sequence[int]:
    """Return the places of jobs in an order in which parents come before children."""
    if all(
        ref.index is None or ref.index < place
        for place, job in enumerate(new)
        for ref in job.parents
    ):
        return range(len(new))
    from graphlib import CycleError, TopologicalSorter

    graph = {
        place: [ref.index for ref in job.parents if ref.index is not None]
        for place, job in enumerate(new)
    }
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = " → ".join(new[place].name or f"#{place + 1}" for place in error.args[1])
        raise UsageError(f"jobs wait for each other in a circle: {circle:.1000}") from None
