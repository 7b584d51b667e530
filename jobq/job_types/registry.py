"""The registry of job types: the built-in one, and the workers in worker folders.

Each folder becomes a package of its own in `sys.modules`, so that its files can import each other
(``from .common import …``). A file that does not import only loses its own job types.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from jobq.errors import NotFound, UsageError, WorkerLoadError
from jobq.job_types import shell
from jobq.job_types.worker import BUNDLED, NO_TYPE, JobWorker
from jobq.job_types.worker_files import (
    PROJECT,
    TrustedFinder,
    WorkerLoader,
    import_error,
    refuse_file,
    refuse_folder,
    worker_files,
)
from jobq.limits import shown_value
from jobq.models import JsonObject
from jobq.redaction import Redactor

_DEFAULT_REDACTOR = Redactor()
ENTRY_POINTS = "jobq.workers"
_TYPE_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class JobType:
    """A job type that can be added and run."""

    name: str
    description: str
    source: str  # the file it comes from, or "built in"
    worker: type[JobWorker] | None  # None: shell, which runs without Python

    def parse(self, args: Mapping[str, Any], redactor: Redactor = _DEFAULT_REDACTOR) -> JsonObject:
        """Check arguments and return what is stored of them. Errors show no secret values.

        Raises:
            ArgsError: arguments are unknown, missing or mistyped; the message names each.
        """
        if self.worker is None:
            return shell.parse(args)
        from jobq.job_types import arguments  # a shell job is spared it

        return arguments.validate(self.name, self.worker, args, redactor)

    def parse_words(self, words: Sequence[str]) -> dict[str, Any]:
        """Return arguments from ``key=value`` words.

        Raises:
            ArgsError: a word is not ``key=value``, names an argument twice, or is not valid JSON
                where the argument takes JSON.
        """
        from jobq.job_types import argument_text

        return argument_text.parse_words(self.name, self.worker, words)

    def decode_texts(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Return arguments from text, as people type them.

        Raises:
            ArgsError: a text is not valid JSON where the argument takes JSON.
        """
        from jobq.job_types import argument_text

        return argument_text.decode_texts(self.name, self.worker, given)

    def secret_tag(self) -> dict[str, str]:
        """Return the tag that names a job's secret arguments; empty if it has none."""
        if self.worker is None:
            return {}
        from jobq.job_types import arguments

        return dict(arguments.secret_tag(self.worker))

    def schema(self) -> JsonObject:
        """Return the arguments as a JSON Schema."""
        if self.worker is None:
            return shell.schema()
        from jobq.job_types import arguments

        return arguments.args_model(self.worker).model_json_schema()


SHELL = JobType(shell.JOB_TYPE, shell.DESCRIPTION, "built in", None)


@dataclass(slots=True)
class Registry:
    """The job types that were found, and errors for those that could not be loaded."""

    types: dict[str, JobType] = field(default_factory=lambda: {SHELL.name: SHELL})
    errors: list[WorkerLoadError] = field(default_factory=list)
    ambiguous: dict[str, WorkerLoadError] = field(default_factory=dict)  # by name

    def get(self, name: str) -> JobType:
        """Return a job type by its name.

        Raises:
            UsageError: there is none, or there are two; the message names the known ones, and files
                that failed.
        """
        if name in self.ambiguous:
            raise UsageError(f"{self.ambiguous[name]}: rename one of them")
        if name in self.types:
            return self.types[name]
        from difflib import get_close_matches  # only for errors

        close = get_close_matches(name[:80], self.types, n=1, cutoff=0.7)
        meant = f"did you mean {close[0]!r}? Known" if close else "known"
        failed = "".join(f"; {error}" for error in self.errors)
        raise UsageError(
            f"unknown job type {shown_value(name)}: {meant} are "
            f"{', '.join(sorted(self.types))}{failed}"
        )

    def add(self, found: type[JobWorker] | Callable[..., Any], source: str) -> None:
        """Register a worker class, or a function under `@job_type`.

        Raises:
            WorkerLoadError: its name is missing, invalid, or taken by another file; or it can't be
                called with the arguments of a job.
        """
        from jobq.job_types.function import worker_of  # a shell job is spared it

        try:
            worker = worker_of(found)
        except WorkerLoadError as error:
            raise WorkerLoadError(f"{source}: {error}") from error
        _require_callable(worker, source)
        name = worker.job_type
        if not _TYPE_NAME.fullmatch(name):
            raise WorkerLoadError(
                f"{source}: {worker.__name__}.job_type is {name!r}: "
                "give it a name of lower-case letters, digits and _"
            )
        if name in self.types:
            clash = WorkerLoadError(
                f"job type {name!r} is in two places: {self.types[name].source} and {source}"
            )
            if name != SHELL.name:
                self.ambiguous[name] = clash
            raise clash
        self.types[name] = JobType(name, _description(worker), source, worker)


def load(
    folders: Sequence[Path],
    *,
    skip: Mapping[str, str] = MappingProxyType({}),
    on_import: Callable[[str], None] = lambda _: None,
) -> Registry:
    """Load the built-in type, bundled workers, those in ``folders``, and installed entry points.

    ``on_import`` is called with each file and entry point before it is imported. Those in ``skip``
    are not imported; its values are the reasons.
    """

    def is_wanted(source: str) -> bool:
        if source in skip:
            registry.errors.append(WorkerLoadError(f"{source}: {skip[source]}"))
            return False
        on_import(source)
        return True

    registry = Registry()
    seen: set[Path] = set()
    for folder, package in (
        (bundled_folder(), BUNDLED),
        *((folder, f"{PROJECT}{n}") for n, folder in enumerate(folders)),
    ):
        if folder.is_dir() and folder.resolve() not in seen:
            seen.add(folder.resolve())
            _load_folder(registry, folder, package, is_wanted)
    _load_entry_points(registry, is_wanted)
    return registry


def _require_callable(worker: type[JobWorker], source: str) -> None:
    run = inspect.getattr_static(worker, "run")
    if not inspect.isfunction(run):
        return
    signature = inspect.signature(run)
    try:
        signature.bind(None, None, None)
    except TypeError:
        raise WorkerLoadError(
            f"{source}: {worker.__name__}.run{signature}: "
            "jobq calls run(self, args, job), even where the type takes no arguments"
        ) from None


def bundled_folder() -> Path:
    """Return the folder of the bundled workers: inside the wheel, or beside it in a checkout."""
    here = Path(__file__).parents[1]
    installed = here / "_workers"
    return installed if installed.is_dir() else here.parent / "workers"


def _description(worker: type[JobWorker]) -> str:
    own = worker.__doc__ or ""
    return inspect.cleandoc(own).split("\n\n")[0].replace("\n", " ")


def _load_folder(
    registry: Registry, folder: Path, package: str, is_wanted: Callable[[str], bool]
) -> None:
    if package not in sys.modules or sys.modules[package].__path__ != [str(folder)]:
        for name in [n for n in sys.modules if n == package or n.startswith(f"{package}.")]:
            del sys.modules[name]
        spec = ModuleSpec(package, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
        sys.modules[package] = importlib.util.module_from_spec(spec)
    own = package == BUNDLED  # as trusted as this file
    try:
        if not own:
            TrustedFinder.install()
            refuse_folder(folder)
    except WorkerLoadError as error:
        registry.errors.append(error)
        return
    for file in worker_files(folder):
        if not is_wanted(str(file)):
            continue
        try:
            if not own:
                refuse_file(file)
            module = _load_file(file, f"{package}.{file.stem}")
        except WorkerLoadError as error:
            registry.errors.append(error)
            continue
        for found in _workers_in(module):
            try:
                registry.add(found, str(file))
            except WorkerLoadError as error:
                registry.errors.append(error)


def _load_file(file: Path, name: str) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    loader = WorkerLoader(name, str(file)) if name.startswith(PROJECT) else None
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    if spec is None or spec.loader is None:
        raise WorkerLoadError(f"{file}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _stdout_kept():
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise WorkerLoadError(import_error(file, error)) from error
    return module


@contextlib.contextmanager
def _stdout_kept() -> Iterator[None]:
    """Send what worker files print at their import to stderr: it is no output of ours."""
    with contextlib.ExitStack() as stack:
        if threading.active_count() == 1:  # other threads may be writing to it
            with contextlib.suppress(OSError):  # there is no stdout, or no stderr
                stdout = os.dup(1)
                stack.callback(os.close, stdout)
                os.dup2(2, 1)
                stack.callback(os.dup2, stdout, 1)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


def _workers_in(module: ModuleType) -> list[type[JobWorker] | Callable[..., Any]]:
    found = [each for each in vars(module).values() if _is_worker(each)]
    return [each for each in dict.fromkeys(found) if each.__module__ == module.__name__]


def _is_worker(found: Any) -> bool:
    from jobq.job_types.function import is_worker_function  # as above

    if not isinstance(found, type):
        return is_worker_function(found)
    return (
        issubclass(found, JobWorker)
        and not inspect.isabstract(found)
        and not (found.job_type == NO_TYPE and found.__name__.startswith("_"))
    )


def _load_entry_points(registry: Registry, is_wanted: Callable[[str], bool]) -> None:
    from importlib import metadata  # 15 ms that a shell job is spared

    for entry in metadata.entry_points(group=ENTRY_POINTS):
        source = f"entry point {entry.name} ({entry.value})"
        if not is_wanted(source):
            continue
        try:
            with _stdout_kept():
                loaded = entry.load()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - foreign code may raise anything
            message = f"{source}: does not import: {type(error).__name__}: {error}"
            registry.errors.append(WorkerLoadError(message))
            continue
        for found in _workers_in(loaded) if isinstance(loaded, ModuleType) else [loaded]:
            try:
                registry.add(found, source)
            except WorkerLoadError as error:
                registry.errors.append(error)


def require_types(registry: Registry, names: Sequence[str]) -> None:
    """Refuse names of unknown job types.

    Raises:
        NotFound: a name is unknown.
    """
    for name in names:
        if name not in registry.types:
            raise NotFound(f"no job type {name!r}: see `jobq types`")
