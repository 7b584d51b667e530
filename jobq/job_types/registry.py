"""Finds the job types: the built-in one, and the `JobWorker` classes in folders of Python files.

Each folder becomes a package of its own in `sys.modules`, so that its files can import each other
(``from .common import …``). A file that does not import takes only its own job types with it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from jobq.errors import ArgsError, NotFound, UsageError, WorkerLoadError
from jobq.job_types import shell
from jobq.job_types.worker import BUNDLED, NO_TYPE, JobWorker
from jobq.models import JsonObject
from jobq.redaction import REDACTED, TAG, Redaction, Redactor

if TYPE_CHECKING:
    from pydantic import BaseModel

_BY_DEFAULT = Redactor()
ENTRY_POINTS = "jobq.workers"
_TYPE_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class JobType:
    """A job type that can be added and run."""

    name: str
    description: str
    source: str  # the file it comes from, or "built in"
    worker: type[JobWorker] | None  # None: shell, which runs without Python

    def parse(self, args: Mapping[str, Any], redactor: Redactor = _BY_DEFAULT) -> JsonObject:
        """Check arguments; what is stored of them. Complaints show no values that are secret.

        Raises:
            ArgsError: naming each argument that is unknown, missing or mistyped.
        """
        if self.worker is None:
            return shell.parse(args)
        hide = redactor.of(args, self.secret_tag())
        return _parse_model(self.name, args_model(self.worker), args, hide)

    def secret_tag(self) -> dict[str, str]:
        """The tag of jobs whose model says of some arguments that they are secret."""
        names = _secret_arguments(self)
        return {TAG: ",".join(sorted(names))} if names else {}

    def schema(self) -> JsonObject:
        """The arguments as a JSON Schema."""
        if self.worker is None:
            return shell.schema()
        return args_model(self.worker).model_json_schema()


SHELL = JobType(shell.JOB_TYPE, shell.DESCRIPTION, "built in", None)


@dataclass(slots=True)
class Registry:
    """The job types that were found, and what could not be loaded."""

    types: dict[str, JobType] = field(default_factory=lambda: {SHELL.name: SHELL})
    errors: list[WorkerLoadError] = field(default_factory=list)

    def get(self, name: str) -> JobType:
        """A job type by its name.

        Raises:
            UsageError: there is none; the message names those there are, and files that failed.
        """
        if name in self.types:
            return self.types[name]
        failed = "".join(f"; {error}" for error in self.errors)
        raise UsageError(
            f"unknown job type {name!r:.80}: known are {', '.join(sorted(self.types))}{failed}"
        )

    def add(self, worker: type[JobWorker], source: str) -> None:
        """Register a worker class.

        Raises:
            WorkerLoadError: its name is missing, odd, or taken by another file.
        """
        name = worker.job_type
        if not _TYPE_NAME.fullmatch(name):
            raise WorkerLoadError(
                f"{source}: {worker.__name__}.job_type is {name!r}: "
                "give it a name of lower-case letters, digits and _"
            )
        if name in self.types:
            raise WorkerLoadError(
                f"job type {name!r} is in two places: {self.types[name].source} and {source}"
            )
        self.types[name] = JobType(name, _description(worker), source, worker)


def load(
    folders: Sequence[Path],
    *,
    skip: Mapping[str, str] = MappingProxyType({}),
    tell: Callable[[str], None] = lambda _: None,
) -> Registry:
    """The built-in type, the bundled workers, those in ``folders``, and installed entry points.

    ``tell`` is told of each file and entry point before it is imported; those in ``skip`` are not,
    for the reason that it gives.
    """

    def is_wanted(source: str) -> bool:
        if source in skip:
            registry.errors.append(WorkerLoadError(f"{source}: {skip[source]}"))
            return False
        tell(source)
        return True

    registry = Registry()
    seen: set[Path] = set()
    for folder, package in (
        (bundled_folder(), BUNDLED),
        *((folder, f"jobq_project_workers_{n}") for n, folder in enumerate(folders)),
    ):
        if folder.is_dir() and folder.resolve() not in seen:
            seen.add(folder.resolve())
            _load_folder(registry, folder, package, is_wanted)
    _load_entry_points(registry, is_wanted)
    return registry


def bundled_folder() -> Path:
    """Where the workers that come with jobq are: inside the wheel, or beside it in a checkout."""
    here = Path(__file__).parents[1]
    installed = here / "_workers"
    return installed if installed.is_dir() else here.parent / "workers"


@cache
def args_model(worker: type[JobWorker]) -> type[BaseModel]:
    """The worker's `Args`; without one, a model that takes none."""
    from pydantic import BaseModel  # 40 ms that a shell job is spared

    found = getattr(worker, "Args", None)
    if found is None:

        class Args(BaseModel):
            pass

        return Args
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise WorkerLoadError(f"{worker.__name__}.Args is not a pydantic model")
    return found


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
    if not os.access(folder, os.R_OK | os.X_OK):  # to glob, it would be empty
        registry.errors.append(WorkerLoadError(f"{folder}: can't be read: Permission denied"))
    for file in sorted(folder.glob("*.py")):
        if file.stem == "__init__" or not is_wanted(str(file)):
            continue
        try:
            module = _load_file(file, f"{package}.{file.stem}")
        except WorkerLoadError as error:
            registry.errors.append(error)
            continue
        for worker in _workers_in(module):
            try:
                registry.add(worker, str(file))
            except WorkerLoadError as error:
                registry.errors.append(error)


def _load_file(file: Path, name: str) -> ModuleType:
    if not file.stem.isidentifier():
        raise WorkerLoadError(f"{file}: not the name of a Python module: use letters, digits and _")
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise WorkerLoadError(f"{file}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what a module prints is not our answer
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise WorkerLoadError(_import_error(file, error)) from error
    return module


def _import_error(file: Path, error: BaseException) -> str:
    line: int | None = None
    if isinstance(error, SyntaxError):
        line = error.lineno
    else:
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == str(file):
                line = trace.tb_lineno
            trace = trace.tb_next
    where = f"{file}:{line}" if line else str(file)
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{where}: does not import: {type(error).__name__}: {message}"


def _workers_in(module: ModuleType) -> list[type[JobWorker]]:
    return [
        found
        for found in vars(module).values()
        if isinstance(found, type)
        and issubclass(found, JobWorker)
        and found.__module__ == module.__name__
        and not inspect.isabstract(found)
        and not (found.job_type == NO_TYPE and found.__name__.startswith("_"))
    ]


def _load_entry_points(registry: Registry, is_wanted: Callable[[str], bool]) -> None:
    from importlib import metadata  # 15 ms that a shell job is spared

    for entry in metadata.entry_points(group=ENTRY_POINTS):
        source = f"entry point {entry.name} ({entry.value})"
        if not is_wanted(source):
            continue
        try:
            registry.add(entry.load(), source)
        except WorkerLoadError as error:
            registry.errors.append(error)
        except Exception as error:  # noqa: BLE001 - somebody else's code may raise anything
            message = f"{source}: does not import: {type(error).__name__}: {error}"
            registry.errors.append(WorkerLoadError(message))


# -- arguments ---------------------------------------------------------------------------------


def _parse_model(
    name: str, model: type[BaseModel], args: Mapping[str, Any], hide: Redaction
) -> JsonObject:
    from pydantic import ValidationError

    if model.model_config.get("extra") != "allow":
        known = [field.alias or key for key, field in model.model_fields.items()]
        for given in args:
            if given not in known and given not in model.model_fields:
                takes = f"it takes {', '.join(known)}" if known else "it takes none"
                raise ArgsError(f"{name}: no argument {given!r:.80}: {takes}")
    try:
        checked = model.model_validate(dict(args))
    except ValidationError as error:
        raise ArgsError(f"{name}: {_complaints(error, hide)}") from None
    dumped: JsonObject = checked.model_dump(mode="json", exclude_unset=True, by_alias=True)
    if _secret_fields(model, set()):
        dumped = _revealed(dumped, checked.model_dump(exclude_unset=True, by_alias=True))
    _require_finite(name, dumped)
    return dumped


def _require_finite(name: str, args: JsonObject) -> None:
    """Refuse what JSON has no word for, and no reader of ``--json`` or of an export takes."""
    import json

    for argument, value in args.items():
        try:
            json.dumps(value, allow_nan=False)
        except ValueError:
            raise ArgsError(f"{name}: argument {argument!r}: give a finite number") from None


def _revealed(dumped: Any, plain: Any) -> Any:
    """What pydantic wrote of arguments, with secrets where it put asterisks."""
    from pydantic import BaseModel

    if hasattr(plain, "get_secret_value"):
        value = plain.get_secret_value()
        return value.decode() if isinstance(value, bytes) else value
    if isinstance(dumped, dict) and isinstance(plain, dict):
        pairs = zip(dumped.items(), plain.values(), strict=True)
        return {name: _revealed(below, value) for (name, below), value in pairs}
    if isinstance(dumped, list) and not isinstance(plain, str | bytes | BaseModel):
        return [_revealed(*pair) for pair in zip(dumped, plain, strict=True)]
    return dumped


@cache
def _secret_arguments(job_type: JobType) -> frozenset[str]:
    if job_type.worker is None:
        return frozenset()
    return frozenset(_secret_fields(args_model(job_type.worker), set()))


def _secret_fields(model: type[BaseModel], seen: set[Any]) -> set[str]:
    """The names of a model's fields, and of those below, that hold a `SecretStr` or the like."""
    from pydantic import BaseModel, Secret, SecretBytes, SecretStr

    seen.add(model)
    names: set[str] = set()
    for key, info in model.model_fields.items():
        for kind in _kinds(info.annotation):
            kind = getattr(kind, "__origin__", kind)  # noqa: PLW2901 - of Secret[int], Secret
            if not isinstance(kind, type):
                continue
            if issubclass(kind, (Secret, SecretStr, SecretBytes)):
                names.add(info.alias or key)
            elif issubclass(kind, BaseModel) and kind not in seen:
                names |= _secret_fields(kind, seen)
    return names


def _kinds(annotation: Any) -> Iterator[Any]:
    """A type, and all that it is made of."""
    yield annotation
    for below in getattr(annotation, "__args__", ()):
        yield from _kinds(below)


def _complaints(error: Any, hide: Redaction) -> str:
    texts = []
    for item in error.errors(include_url=False):
        where = ".".join(map(str, item["loc"]))
        message = item["msg"].removeprefix("Value error, ")
        if not where:  # the arguments do not go together
            texts.append(message)
        elif item["type"] == "missing":
            texts.append(f"argument {where!r} is missing")
        else:
            is_secret = any(hide.redactor.is_secret(str(part)) for part in item["loc"])
            got = REDACTED if is_secret else f"{hide.value(item['input'])!r:.100}"
            texts.append(f"argument {where!r}: {hide.text(message)}, got {got}")
    return "; ".join(texts)


def parse_words(job_type: JobType, words: Sequence[str]) -> dict[str, Any]:
    """``key=value`` words as arguments: text where the type takes text, JSON where it does not.

    Raises:
        ArgsError: a word is not ``key=value``, or names an argument twice.
    """
    given: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ArgsError(
                f"{word!r:.80} is not key=value; a command goes after --: `jobq add -- {word:.80} …`"
            )
        if key in given:
            raise ArgsError(f"{job_type.name}: argument {key!r} is given twice")
        given[key] = value
    return decode_texts(job_type, given)


def decode_texts(job_type: JobType, given: Mapping[str, str]) -> dict[str, Any]:
    """Arguments from text, as people type them: JSON where text can't be a value.

    Raises:
        ArgsError: it is not JSON.
    """
    import json

    structured = _structured_arguments(job_type)
    decoded: dict[str, Any] = dict(given)
    for key in given.keys() & structured:
        try:
            decoded[key] = json.loads(given[key])
        except (ValueError, RecursionError) as error:
            raise ArgsError(
                f"{job_type.name}: argument {key!r:.80}: expected JSON such as "
                f"""'["a", "b"]', got {given[key]!r:.100}: {error!s:.100}"""
            ) from None
    return decoded


@cache
def _structured_arguments(job_type: JobType) -> frozenset[str]:
    """Arguments that text can't be a value of: lists, objects, and choices among such."""
    from pydantic import TypeAdapter, ValidationError

    if job_type.worker is None:
        return frozenset({"argv", "env"})
    structured = set()
    for key, info in args_model(job_type.worker).model_fields.items():
        adapter: TypeAdapter[Any] = TypeAdapter(info.annotation or Any)
        try:
            adapter.validate_python("")
        except ValidationError as error:
            kinds = {item["type"] for item in error.errors()}
            if kinds <= _NOT_FROM_TEXT:
                structured.add(info.alias or key)
    return frozenset(structured)


_NOT_FROM_TEXT = {
    "list_type", "tuple_type", "set_type", "frozen_set_type", "dict_type", "model_type",
    "model_attributes_type", "dataclass_type", "mapping_type", "iterable_type",
    "sequence_str", "is_instance_of", "none_required",
}  # fmt: skip


def require_types(registry: Registry, names: Sequence[str]) -> None:
    """Refuse names of job types that are not there.

    Raises:
        NotFound: one is not known.
    """
    for name in names:
        if name not in registry.types:
            raise NotFound(f"no job type {name!r}: see `jobq types`")
