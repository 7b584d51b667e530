"""Worker files: which of them may be loaded, and what is wrong with them. Runs none of them."""

import hashlib
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from jobq.clock import utcnow
from jobq.config.trust import distrust, refuse_foreign
from jobq.errors import WorkerLoadError
from jobq.units import format_duration

_DIGEST_CHARS = 12
_MIN_COMPILED_AGE_S = 2.0

PROJECT = "jobq_project_workers_"
"""How the names of the packages begin that hold a project's worker files."""


MAX_IMPORT_DEATHS = 2
"""Deaths of a process at the import of one worker file, before the file is left out."""

ENDS_PROCESS = "does not import: it ends the process that imports it"


def hang_reason(timeout: float) -> str:
    """Return why a file is left out whose import takes longer than this many seconds."""
    return (
        f"does not import: not done after {format_duration(timeout)}: "
        "move what takes so long into run(), or raise workers.import_timeout"
    )


def worker_files(folder: Path) -> list[Path]:
    """Return the files of a folder that may hold worker classes."""
    return [file for file in sorted(folder.glob("*.py")) if file.stem != "__init__"]


def refuse_folder(folder: Path) -> None:
    """Refuse a folder that can't be read, or to which other users may add files.

    Raises:
        WorkerLoadError: it is refused.
    """
    if not os.access(folder, os.R_OK | os.X_OK):  # glob() would find nothing
        raise WorkerLoadError(f"{folder}: can't be read: Permission denied")
    refuse_foreign(folder, WorkerLoadError)
    # Python runs what it finds there in place of the files.
    refuse_foreign(folder / "__pycache__", WorkerLoadError)


def refuse_file(file: Path) -> None:
    """Refuse a file that is no module, or not this user's alone.

    Raises:
        WorkerLoadError: it is refused.
    """
    if not file.stem.isidentifier():
        raise WorkerLoadError(f"{file}: not the name of a Python module: use letters, digits and _")
    refuse_foreign(file, WorkerLoadError)


def faults(folders: Iterable[Path]) -> list[WorkerLoadError]:
    """Return what keeps worker files from being loaded, as far as that shows without running them."""
    found = []
    for folder in folders:
        if not folder.is_dir():
            continue
        try:
            refuse_folder(folder)
        except WorkerLoadError as error:
            found.append(error)
            continue
        for file in worker_files(folder):
            try:
                refuse_file(file)
                compile(file.read_bytes(), file, "exec")
            except WorkerLoadError as error:
                found.append(error)
            except (SyntaxError, ValueError, OSError) as error:
                found.append(WorkerLoadError(import_error(file, error)))
    return found


def import_error(file: Path, error: BaseException) -> str:
    """Return the message about a file that does not import, with the line where that shows."""
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


FileState = tuple[int, int] | None
"""The time and the size of a file; None: there is none."""


def file_states(folders: Iterable[Path], files: Iterable[str] = ()) -> dict[str, FileState]:
    """Return the states of the worker files in these folders, and of other files."""
    found: dict[str, FileState] = {}
    for folder in folders:
        try:
            with os.scandir(folder) as entries:
                names = [entry.path for entry in entries if entry.name.endswith(".py")]
        except OSError:  # there may be one later
            continue
        # An editor's lock is a link to nowhere.
        found.update({name: state for name in names if (state := _file_state(name))})
    return found | {name: _file_state(name) for name in files if name not in found}


def _file_state(name: str) -> FileState:
    try:
        found = os.stat(name)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def files_below(folders: Iterable[Path]) -> list[str]:
    """Return the files of all modules that were imported from these folders, at any depth."""
    places = tuple(f"{folder}{os.sep}" for folder in folders)
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return sorted({file for file in files if file and file.startswith(places)})


@cache
def code_digest(package: str) -> str:
    """Return a digest of the files of a package that are imported."""
    digest = hashlib.sha256()
    for name, each in sorted(sys.modules.items()):
        if name.partition(".")[0] == package and (file := getattr(each, "__file__", None)):
            digest.update(name.encode())
            with suppress(OSError):  # it is gone by now
                digest.update(Path(file).read_bytes())
    return digest.hexdigest()[:_DIGEST_CHARS]


class WorkerLoader(SourceFileLoader):
    """Loader of worker files, which may change twice in a second.

    Python takes compiled code for that of a file if second and size are the same. So none is kept
    of a file that has only just changed.
    """

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Keep compiled code."""
        age = utcnow().timestamp() - os.stat(self.path).st_mtime
        if age > _MIN_COMPILED_AGE_S:
            super().set_data(path, data, _mode=_mode)


class TrustedFinder:
    """Finder of what a project's worker files import from their folder: only what is trusted."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Find a module as Python does.

        Raises:
            ImportError: what was found is not trusted.
        """
        if path is None or not fullname.startswith(PROJECT):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None:
            return None
        places = [*(spec.submodule_search_locations or ())]
        if spec.has_location and spec.origin:
            places += [spec.origin, os.path.join(os.path.dirname(spec.origin), "__pycache__")]
        for place in places:
            if reason := distrust(place):
                raise ImportError(f"{place}: {reason}")
        if isinstance(spec.loader, SourceFileLoader):
            spec.loader = WorkerLoader(fullname, spec.loader.path)
        return spec

    @classmethod
    def install(cls) -> None:
        """Have imports go through it."""
        if not any(isinstance(finder, cls) for finder in sys.meta_path):
            sys.meta_path.insert(0, cls())
