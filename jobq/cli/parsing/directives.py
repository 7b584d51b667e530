"""Directives: options of ``jobq add`` that a script gives in its head, as ``#JOBQ --priority 9``."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from jobq.cli.parsing.declarations import Command, Group, parameters_of
from jobq.cli.parsing.fast_parser import read
from jobq.cli.parsing.job_options import JobOptions, JobRequest, SingleJobOptions, StartOptions
from jobq.errors import UsageError

MARK = "#JOBQ"
_HEAD_BYTES = 4096
_AnyGroup = TypeVar("_AnyGroup", bound=Group)


def _directed(job: JobOptions, single: SingleJobOptions, start: StartOptions) -> None:
    """Take the options that a script may give."""


_COMMAND = cast("Command", _directed)


def with_directives(request: JobRequest) -> JobRequest:
    """Return a request with what the head of its script gives; what was typed counts more.

    Raises:
        UsageError: a directive is no option of `add`, or names a command.
    """
    argv = request.job.argv
    if not argv or "/" not in argv[0]:  # only a path: other commands are not looked for
        return request
    script = Path(request.job.cwd or ".", argv[0])
    words = [word for line in _directives(script) for word in line]
    if not words:
        return request
    values = read(_COMMAND, words)
    if values is None or values.pop("words", None) or values.pop("argv", None) is not None:
        raise UsageError(
            f"{argv[0]}: {MARK} {shlex.join(words)}: give options of `jobq add` in full, "
            "and only those that describe a job"
        )
    groups = {each.name: each.group for each in parameters_of(_COMMAND)}

    def found(group: str) -> dict[str, Any]:
        return {name: value for name, value in values.items() if groups[name] == group}

    return JobRequest(
        _merged(request.job, found("job")),
        _merged(request.single, found("single")),
        _merged(request.start, found("start")),
    )


def _directives(script: Path) -> Iterator[list[str]]:
    """Yield the words of each directive in the comments that a script begins with."""
    try:
        with script.open("rb") as file:
            head = file.read(_HEAD_BYTES) if script.is_file() else b""
    except OSError:  # it is not there, or not to be read: that is told when it is run
        return
    if not head.startswith(b"#!"):
        return
    for line in head.decode("utf-8", "replace").splitlines():
        if line and not line.startswith("#"):
            return
        mark, _, text = line.partition(" ")
        if mark == MARK:
            try:
                yield shlex.split(text)
            except ValueError as error:
                raise UsageError(f"{script}: {line!r:.80}: {error}") from None


def _merged(given: _AnyGroup, found: Mapping[str, Any]) -> _AnyGroup:
    """Return a group with the values found in a script where none was typed."""
    kind = type(given)
    values = dict(vars(given))
    for name, value in found.items():
        typed = getattr(given, name)
        if isinstance(value, list) and name in ("tag", "env"):
            keys = {word.partition("=")[0] for word in typed or ()}
            kept = [word for word in value if word.partition("=")[0] not in keys]
            values[name] = [*kept, *(typed or ())]
        elif typed == getattr(kind, name):
            values[name] = value
    return kind(**values)
