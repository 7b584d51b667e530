"""Completers for words: verbs, job ids, queues, schedules, types and their arguments.

The shell waits, and passes the output through `eval`. So nothing heavy is imported, nothing is
created, no error is shown, and only harmless characters of job names are printed.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from io import StringIO
from typing import NamedTuple

from jobq.config.loader import load_settings
from jobq.config.settings import SQLITE, Settings
from jobq.job_types.learned import LearnedType, arguments_of, recall, values_of
from jobq.models import FINISHED, UNFINISHED, JobFilter, JobStatus
from jobq.queue import JobQueue
from jobq.redaction import ShownJob

Items = list[tuple[str, str]]
"""Completions of a word, each with a few words about it."""


class Line(NamedTuple):
    """The command line before the word that is completed."""

    verb: str
    words: tuple[str, ...]  # except options
    config_file: str | None = None


Finder = Callable[[Line, str], Iterator[tuple[str, str]]]
"""A function that finds completions of the beginning of a word; extra ones do no harm."""

MAX_JOBS = 50
"""Jobs that are offered at most: the newest ones."""

MAX_PROGRAMS = 200

_READ_LIMIT = 1000
_AMONG = {
    "cancel": UNFINISHED,
    "wait": UNFINISHED,
    "retry": frozenset({JobStatus.FAILED, JobStatus.CANCELLED}),
    "prune": FINISHED,
    "add": UNFINISHED,  # --after
}
"""The statuses of the jobs that a verb is mostly used for."""

_VALUE = re.compile(r"[A-Za-z0-9_.,+-]+(=[A-Za-z0-9_.,+-]*)?")
_HARMFUL = re.compile(r"[^\w .,:=@%/+-]+")


def harmless(text: str) -> str:
    """Return text without characters that a shell interprets, such as quotes, brackets and `$`."""
    return re.sub(r"\s+", " ", _HARMFUL.sub(" ", text)).strip()[:60].rstrip()


def offered(find: Finder, line: Line, incomplete: str) -> Items:
    """Return the completions of a word; none if they can't be found."""
    try:
        return [
            (value, harmless(words))
            for value, words in find(line, incomplete)
            if value.startswith(incomplete) and _VALUE.fullmatch(value)
        ]
    except Exception:  # noqa: BLE001 - an error must not disturb the person typing
        return []


def _settings(line: Line) -> Settings:
    return load_settings(line.config_file)


@contextmanager
def _queue(line: Line) -> Iterator[JobQueue | None]:
    """Yield the queue if it exists; completion does not create it."""
    settings = _settings(line)
    if settings.backend == SQLITE and not settings.database.exists():
        yield None
        return
    with JobQueue.from_settings(settings) as queue:
        yield queue


# -- jobs ------------------------------------------------------------------------------------


def _job_ids(line: Line, incomplete: str) -> Iterator[tuple[str, str]]:
    before, comma, last = incomplete.rpartition(",")
    among = _AMONG.get(line.verb, frozenset(JobStatus))
    if "last".startswith(last):
        yield before + comma + "last", "the newest job"
    if last and not last.isdigit():
        return
    with _queue(line) as queue:
        if queue is None:
            return
        # Ids that begin with these digits: most are among the newest.
        wanted = JobFilter(statuses=None if len(among) == len(JobStatus) else among)
        found = queue.find(wanted, limit=_READ_LIMIT, newest=True)
        if last and (exact := queue.existing([int(last)])):
            found = [*exact.values(), *(job for job in found if job.id != int(last))]
        chosen = [job for job in found if str(job.id).startswith(last)][:MAX_JOBS]
        for job in chosen:
            yield f"{before}{comma}{job.id}", _words_on(queue.shown(job))


def _words_on(job: ShownJob) -> str:
    from jobq.describe import describe

    return f"{job.status}: {job.name or describe(job)}"


# -- names -----------------------------------------------------------------------------------


def _queues(line: Line, incomplete: str) -> Iterator[tuple[str, str]]:
    del incomplete
    with _queue(line) as queue:
        if queue is None:
            for name, configured in _settings(line).queues.items():
                yield name, configured.description or "queue"
            return
        for each in queue.queues():
            yield each.name, ("paused " if each.paused else "") + (each.description or "queue")


def _schedules(line: Line, incomplete: str) -> Iterator[tuple[str, str]]:
    del incomplete
    from jobq.scheduling.schedules import Schedules

    with _queue(line) as queue:
        for each in Schedules(queue).all() if queue else ():
            yield each.name, ("paused " if each.paused else "") + each.type


def _statuses(line: Line, incomplete: str) -> Iterator[tuple[str, str]]:
    del line
    before, comma, _ = incomplete.rpartition(",")
    for status in JobStatus:
        yield f"{before}{comma}{status.value}", "status"


def _known_types(line: Line) -> dict[str, LearnedType]:
    """Return the job types, without running a project's worker files.

    A checkout that a stranger wrote must not be able to run code on a TAB.
    """
    from jobq.job_types.registry import load  # pydantic

    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # their output is no completion
        installed = load(()).types
    return {
        name: LearnedType(each.description.partition("\n")[0], arguments_of(each), values_of(each))
        for name, each in installed.items()
    } | dict(recall(_settings(line)).types)


def _types(line: Line, incomplete: str) -> Iterator[tuple[str, str]]:
    del incomplete
    for name, about in sorted(_known_types(line).items()):
        yield name, about.description


def _words(line: Line, incomplete: str) -> Iterator[tuple[str, str]]:
    """Find job types; after one, the names of its arguments; after such a name, its values."""
    given = line.words
    if not given:
        yield from _types(line, incomplete)
        return
    name, equals, _ = incomplete.partition("=")
    if equals:
        for value in _known_types(line)[given[0]].values.get(name, ()):
            yield f"{name}={value}", name
        return
    taken = {word.partition("=")[0] for word in given[1:]}
    for name, text in _known_types(line)[given[0]].arguments.items():
        if name not in taken:
            yield f"{name}=", text


def _programs(line: Line, incomplete: str) -> Iterator[tuple[str, str]]:
    """Find the programs on $PATH, from the first character on."""
    del line
    found = set()
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if incomplete else ():
        with suppress(OSError), os.scandir(folder or ".") as entries:
            found |= {e.name for e in entries if e.name.startswith(incomplete)}
    for name in sorted(found)[:MAX_PROGRAMS]:
        yield name, "program"


FINDERS: Mapping[str, Finder] = {
    "job_ids": _job_ids,
    "programs": _programs,
    "queues": _queues,
    "schedules": _schedules,
    "statuses": _statuses,
    "types": _types,
    "words": _words,
}
"""Finders by the names that declarations use."""
