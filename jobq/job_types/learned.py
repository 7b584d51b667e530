"""The memory of a project's job types, so that completion and checks run no worker files.

It lies beside the database, and is written where worker files are loaded anyway. A checkout may
bring its own: what is read is data for display, and nothing in it is run.
"""

import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobq.config.settings import Settings
from jobq.job_types.worker_files import worker_files
from jobq.system.permissions import make_directory, open_file

if TYPE_CHECKING:
    from jobq.job_types.registry import JobType, Registry

_MAX_BYTES = 1_000_000
_FORMAT = 2


@dataclass(frozen=True, slots=True)
class LearnedType:
    """A job type as it was when its file was loaded last."""

    description: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)  # with a few words on each
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of those with a choice


@dataclass(frozen=True, slots=True)
class Learned:
    """The job types of a project's worker files, and the errors, when they were loaded last."""

    types: Mapping[str, LearnedType] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    is_current: bool = False  # no worker file has changed since


def load_project(settings: Settings) -> "Registry":
    """Load the job types of these settings, and remember them for completion and checks.

    Files that have changed are imported in another process first: one whose import takes longer
    than ``workers.import_timeout``, or ends the process, is left out here.
    """
    from jobq.job_types.registry import load  # what only recalls does without

    if not any(map(_files, settings.worker_paths)) or recall(settings).is_current:
        return load(settings.worker_paths)
    from jobq.job_types.probe import find_unimportable  # only where files have changed

    skip = find_unimportable(settings)
    registry = load(settings.worker_paths, skip=skip)
    learn(settings, registry, complete=not skip)
    return registry


def recall(settings: Settings) -> Learned:
    """Return what was learned last; nothing, if that can't be read."""
    try:
        known = json.loads(_read(_file(settings)))
        return Learned(
            {
                str(name): LearnedType(
                    str(about["description"]),
                    _texts(about["arguments"]),
                    {str(k): tuple(map(str, v)) for k, v in about["values"].items()},
                )
                for name, about in known["types"].items()
            },
            tuple(map(str, known["errors"])),
            known["state"] == _state(settings) and known["format"] == _FORMAT,
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Learned()


def learn(settings: Settings, registry: "Registry", *, complete: bool = True) -> None:
    """Remember the types of the project's worker files. If that fails, less is offered.

    Unless they are ``complete``, since files were left out, they do not count as current.
    """
    if not any(folder.is_dir() for folder in settings.worker_paths):
        return
    with suppress(Exception):  # a worker's model may raise anything
        if recall(settings).is_current:
            return
        own = {str(file) for folder in settings.worker_paths for file in _files(folder)}
        document = {
            "format": _FORMAT,
            "state": _state(settings) if complete else None,
            "types": {
                name: {
                    "description": each.description.partition("\n")[0],
                    "arguments": arguments,
                    "values": values_of(each),
                }
                for name, each in registry.types.items()
                if each.source in own and (arguments := arguments_of(each)) is not None
            },
            "errors": [str(error) for error in registry.errors],
        }
        _replace(_file(settings), json.dumps(document).encode())


def arguments_of(job_type: "JobType") -> dict[str, str]:
    """Return the arguments of a job type, with a few words on each."""
    return {
        name: str(about.get("description") or about.get("type") or "argument")
        for name, about in job_type.schema().get("properties", {}).items()
    }


def values_of(job_type: "JobType") -> dict[str, tuple[str, ...]]:
    """Return the values that arguments with a choice of them take, as people type them."""
    schema = job_type.schema()
    found = {
        name: tuple(_choices(about, schema.get("$defs", {})))
        for name, about in schema.get("properties", {}).items()
    }
    return {name: values for name, values in found.items() if values}


def _choices(about: Mapping[str, Any], named: Mapping[str, Any]) -> list[str]:
    about = named.get(str(about.get("$ref", "")).rpartition("/")[2], about)
    if about.get("type") == "boolean":
        return ["true", "false"]
    if "const" in about:
        return [str(about["const"])]
    alternatives = [*about.get("anyOf", ()), *about.get("oneOf", ())]
    return [
        *map(str, about.get("enum", ())),
        *(value for each in alternatives for value in _choices(each, named)),
    ]


def _file(settings: Settings) -> Path:
    return Path(f"{settings.database}.types.json")


def _files(folder: Path) -> list[Path]:
    return worker_files(folder) if folder.is_dir() else []


def _state(settings: Settings) -> list[list[Any]]:
    """Return names, times and sizes of the worker files: they differ once one has changed."""
    return [
        [str(file), found.st_mtime_ns, found.st_size]
        for folder in settings.worker_paths
        for file in _files(folder)
        if (found := file.stat())
    ]


def _texts(value: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(text) for name, text in value.items()}


def _read(file: Path) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(file, flags), "rb") as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise ValueError("not a file")
        return opened.read(_MAX_BYTES)


def _replace(file: Path, data: bytes) -> None:
    """Write a file in place of another, or of a link, without following it."""
    if len(data) > _MAX_BYTES:
        return
    make_directory(file.parent)
    new = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        with open(open_file(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as opened:
            opened.write(data)
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)
