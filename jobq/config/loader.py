"""The loading of settings: jobq.toml is found, read and checked, and so are `JOBQ_*` variables."""

import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from jobq.config import parsers
from jobq.config.environment import (
    BACKEND_VAR,
    CONCURRENCY_VAR,
    CONFIG_VAR,
    DATABASE_VAR,
    LOG_DIR_VAR,
    log_dir_of_job,
    unless_another_is_named,
)
from jobq.config.settings import (
    CAPTURED_VARIABLES,
    DEFAULT_LOG_MAX_BYTES,
    MIN_LOG_MAX_BYTES,
    SQLITE,
    Retention,
    RetryPolicy,
    Serve,
    Settings,
    Timeouts,
)
from jobq.config.trust import distrust, refuse_foreign_open
from jobq.errors import ConfigError, UsageError
from jobq.models import DEFAULT_QUEUE, QUEUE_NAME, Queue
from jobq.redaction import Redactor
from jobq.units import parse_priority

FILE_NAME = "jobq.toml"

# -- finding the file ------------------------------------------------------------------------


def load_settings(
    path: Path | str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Settings:
    """Load settings from ``path``, or the first of $JOBQ_CONFIG, nearest jobq.toml, the user's.

    Without a file, the defaults hold, and state is kept in the user's state directory.

    Raises:
        ConfigError: a file or variable is wrong, or the file is another user's, or others may
            write to it or replace it; the message names file, line and key.
    """
    environ = os.environ if environ is None else environ
    cwd = cwd or working_directory()
    found = find_file(path, environ, cwd)
    table = _read(found) if found else {}
    environ = unless_another_is_named(environ, path, found)
    return _Reader(found, environ, cwd).settings(table)


def find_file(path: Path | str | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """Return the file that settings come from, or None if the defaults hold.

    A file that is not trusted ends the search: to go on would send jobs to another queue than the
    directory seems to have.

    Raises:
        ConfigError: a file that was named does not exist; or the file is another user's, or others
            may write to it or replace it.
    """
    for named, by in ((path, "--config"), (environ.get(CONFIG_VAR), f"${CONFIG_VAR}")):
        if named:
            try:
                file = cwd / Path(named).expanduser()
            except RuntimeError:
                raise ConfigError(f"{by}: {parsers.NO_HOME}, got {str(named)!r}") from None
            if not _is_there(file):
                raise ConfigError(f"{file}: no such file ({by}): create it with `jobq init`")
            return _trusted(file, f" ({by})")
    for folder in (cwd, *cwd.parents):
        if _is_there(folder / FILE_NAME):
            return _trusted(folder / FILE_NAME, "; or name another one with --config")
    users = user_directory("config")
    if users is None or not _is_there(users / FILE_NAME):
        return None
    return _trusted(users / FILE_NAME)


def _trusted(file: Path, remark: str = "") -> Path:
    if (reason := distrust(file)) is not None:
        raise ConfigError(f"{file}: not used: {reason}{remark}")
    return file


def _is_there(file: Path) -> bool:
    """Return whether a file is there.

    Raises:
        ConfigError: it can't be read, or is not a regular file. It must not count as missing:
            other settings would hold.
    """
    try:
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if file.is_symlink():
            raise ConfigError(f"{file}: a symbolic link to nowhere: remove or correct it") from None
        return False
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}: make it readable for you") from None
    if not stat.S_ISREG(mode):
        raise ConfigError(f"{file}: not a regular file: remove it, or put a file in its place")
    return True


def working_directory() -> Path:
    """Return the working directory.

    Raises:
        ConfigError: it has been deleted.
    """
    try:
        return Path.cwd()
    except FileNotFoundError:
        raise ConfigError(
            "the working directory was deleted: change to another one (`cd`)"
        ) from None


def is_users_file(path: Path) -> bool:
    """Return whether it is the user's own file, beside which no state is kept."""
    if path.absolute().parent.name != "jobq":  # user_directory takes 15 ms
        return False
    users = user_directory("config")
    return users is not None and path.absolute() == users / FILE_NAME


def user_directory(kind: str) -> Path | None:
    """Return the user's own directory of "config" or "state"; None for a user without a home."""
    import platformdirs  # 15 ms, and only without a jobq.toml nearby

    find = platformdirs.user_config_path if kind == "config" else platformdirs.user_state_path
    try:
        found = find("jobq")
    except RuntimeError:
        return None
    return found if found.is_absolute() else None


def user_state() -> Path:
    """Return the user's own directory for state.

    Raises:
        ConfigError: the user has no home directory.
    """
    if (state := user_directory("state")) is None:
        raise ConfigError(
            "you have no home directory for the database and the logs: set $HOME, or change to a "
            "directory with a jobq.toml (`jobq init` writes one)"
        )
    return state


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            refuse_foreign_open(file.fileno(), path)
            text = file.read().decode().removeprefix("\ufeff")  # which some editors write
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        twice = "Cannot declare" in str(error)  # in which tomllib names the table
        remedy = ": merge it with the table of that name above" if twice else ""
        raise ConfigError(f"{path}: not valid TOML: {error}{remedy}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not valid UTF-8: save it as UTF-8") from None
    except ValueError as error:  # Python reads no number of thousands of digits
        raise ConfigError(f"{path}: a number is too long: {error!s:.80}") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


# -- reading it ------------------------------------------------------------------------------

_TOP_KEYS: Mapping[str, parsers.Parse] = {
    "database": parsers.path,
    "log_dir": parsers.path,
    "concurrency": parsers.whole_number(1),
    "backend": parsers.backend,
}
_TABLE_KEYS: Mapping[str, Mapping[str, parsers.Parse]] = {
    "workers": {
        "paths": parsers.paths,
        "import_timeout": parsers.positive_duration,
    },
    "work": {"autostart": parsers.boolean},
    "retry": {
        "max_retries": parsers.whole_number(0),
        "base": parsers.limit,
        "jitter": parsers.fraction,
        "max_crashes": parsers.whole_number(1),
    },
    "timeouts": {
        "low": parsers.limit,
        "normal": parsers.limit,
        "high": parsers.limit,
        "critical": parsers.limit,
        "types": lambda value: value,
    },
    "retention": {
        "older_than": parsers.positive_duration,
        "keep_last": parsers.whole_number(0),
        **dict.fromkeys(("completed", "failed", "cancelled"), parsers.limit),
    },
    "logs": {
        "max_bytes": parsers.size(MIN_LOG_MAX_BYTES),
        "min_free": parsers.size_or_auto,
        "ship_max_bytes": parsers.size(),
        "ship_ttl": parsers.positive_duration,
    },
    "lease": {"seconds": parsers.positive_duration, "grace": parsers.limit},
    "env": {"capture": parsers.texts},
    "redact": {"patterns": parsers.texts},
    "hooks": {"on_finish": parsers.commands},
    "serve": {
        "host": parsers.text,
        "port": parsers.port,
        "socket": parsers.optional_path,
        "public_url": parsers.public_url,
        "hosts": parsers.texts,
        "trusted_proxies": parsers.texts,
        "tls_cert": parsers.optional_path,
        "tls_key": parsers.optional_path,
        "submit": parsers.texts,
        "submit_env": parsers.texts,
        "submit_cwd": parsers.paths,
        "threads": parsers.whole_number(1),
        "max_streams": parsers.whole_number(1),
        "rate": parsers.rate,
        "session": parsers.positive_duration,
        "page": parsers.switch,
        "read_only": parsers.switch,
    },
}
_QUEUE_KEYS: Mapping[str, parsers.Parse] = {
    "description": parsers.text,
    "max_concurrent": parsers.whole_number(1),
    "priority": parse_priority,
    "rate": parsers.rate,
    "timeout": parsers.limit,
    "max_retries": parsers.whole_number(0),
}

_KEY_OF_VARIABLE = {
    DATABASE_VAR: "database",
    LOG_DIR_VAR: "log_dir",
    CONCURRENCY_VAR: "concurrency",
    BACKEND_VAR: "backend",
}


class _Reader:
    """A reader of one file's tables; every error names the file, the line and the key."""

    def __init__(self, path: Path | None, environ: Mapping[str, str], cwd: Path) -> None:
        self.path = path
        self.environ = environ
        self.cwd = cwd

    def settings(self, table: dict[str, Any]) -> Settings:
        tables = {name: table.pop(name, {}) for name in (*_TABLE_KEYS, "queues")}
        top = self._values(table, _TOP_KEYS, ())
        base = self.path.parent if self.path else None
        home = base if self.path and not is_users_file(self.path) else None
        for variable, key in _KEY_OF_VARIABLE.items():
            if value := self.environ.get(variable):
                top[key] = self._variable(variable, key, value)
        if (log_dir := log_dir_of_job(self.environ)) is not None:
            top["log_dir"] = log_dir
        read = {
            name: self._values(tables[name], keys, (name,)) for name, keys in _TABLE_KEYS.items()
        }
        workers = read["workers"].get("paths", ("workers",) if base else ())
        lease = read["lease"]
        retry = read["retry"]
        return Settings(
            path=self.path,
            database=self._database(top.get("database"), home),
            log_dir=self._log_dir(top.get("log_dir"), home),
            concurrency=top.get("concurrency") or usable_cpus(),
            backend=top.get("backend", SQLITE),
            autostart=read["work"].get("autostart", False),
            import_timeout=read["workers"].get("import_timeout", 60.0),
            worker_paths=tuple(_absolute(item, base) for item in workers),
            max_retries=retry.get("max_retries", 3),
            retry_base=retry.get("base", 10.0),
            retry=RetryPolicy(retry.get("jitter", 0.1), retry.get("max_crashes", 3)),
            timeouts=self._timeouts(read["timeouts"]),
            retention=Retention(**read["retention"]),
            lease=lease.get("seconds", 30.0),
            grace=lease.get("grace", 10.0),
            log_max_bytes=read["logs"].get("max_bytes", DEFAULT_LOG_MAX_BYTES),
            min_free=read["logs"].get("min_free"),
            ship_max_bytes=read["logs"].get("ship_max_bytes", 64 << 10),
            ship_ttl=read["logs"].get("ship_ttl", 3600.0),
            queues=self._queues(tables["queues"]),
            env_capture=read["env"].get("capture", CAPTURED_VARIABLES),
            redactor=Redactor(**read["redact"]),
            on_finish=read["hooks"].get("on_finish", ()),
            serve=self._serve(read["serve"]),
        )

    def _serve(self, values: dict[str, Any]) -> Serve:
        base = self.path and self.path.parent
        for key in ("socket", "tls_cert", "tls_key"):
            if values.get(key) is not None:
                values[key] = _absolute(values[key], base)
        if "submit_cwd" in values:
            values["submit_cwd"] = tuple(_absolute(each, base) for each in values["submit_cwd"])
        return Serve(**values)

    def _database(self, given: str | None, home: Path | None) -> Path:
        if given is None:
            return (home / ".jobq" if home else user_state()) / "jobq.db"
        return _absolute(given, self.path and self.path.parent)

    def _log_dir(self, given: str | None, home: Path | None) -> Path:
        if given is None:
            return (home or user_state()) / "logs"
        return _absolute(given, self.path and self.path.parent)

    def _values(
        self, table: Any, keys: Mapping[str, parsers.Parse], at: tuple[str, ...]
    ) -> dict[str, Any]:
        if not isinstance(table, dict):
            self._complain(at[:-1], at[-1], f"expected a table: [{'.'.join(at)}]")
        values = {}
        for key, value in table.items():
            if key not in keys:
                self._complain(at, key, _unknown(key, keys, at))
            try:
                values[key] = keys[key](value)
            except UsageError as error:
                self._complain(at, key, f"{error}, got {_shown(key, value)}")
        return values

    def _timeouts(self, values: dict[str, Any]) -> Timeouts:
        types = values.pop("types", {})
        keys = dict.fromkeys(types, parsers.limit) if isinstance(types, dict) else {}
        given = self._values(types, keys, ("timeouts", "types"))
        return Timeouts(**values, types=given)

    def _queues(self, table: Any) -> dict[str, Queue]:
        if not isinstance(table, dict):
            self._complain((), "queues", "expected tables: [queues.NAME]")
        queues = {}
        for name, values in table.items():
            if not QUEUE_NAME.fullmatch(name):
                self._complain(("queues",), name, "expected a name of letters, digits, . _ -")
            queues[name] = Queue(name=name, **self._values(values, _QUEUE_KEYS, ("queues", name)))
        queues.setdefault(DEFAULT_QUEUE, Queue(name=DEFAULT_QUEUE))
        return queues

    def _variable(self, variable: str, key: str, value: str) -> Any:
        try:
            parsed = _TOP_KEYS[key](value)
        except UsageError as error:
            raise ConfigError(f"${variable}: {error}, got {_shown(key, value)}") from None
        # A path in a variable is relative to the working directory.
        is_path = key in ("database", "log_dir")
        return str(self.cwd / Path(value).expanduser()) if is_path else parsed

    def _complain(self, table: tuple[str, ...], key: str, what: str) -> NoReturn:
        from jobq.config.toml_lines import line_of  # only for errors

        line = line_of(self.path, table, key)
        where = f"{self.path}:{line}" if line else str(self.path or "configuration")
        name = ".".join((*table, key))
        raise ConfigError(f"{where}: {name}: {what}")


def _unknown(key: str, keys: Mapping[str, parsers.Parse], at: tuple[str, ...]) -> str:
    """Return the message about a key that is not known there."""
    tables = {**_TABLE_KEYS, "queues.NAME": _QUEUE_KEYS}
    there = [f"[{name}]" for name, others in tables.items() if key in others]
    if there:
        return f"no such key here: it belongs below {' or '.join(there)}"
    if at and key in _TOP_KEYS:
        return "no such key here: it belongs above the first table"
    known = ", ".join(keys) if at else ", ".join((*keys, *_TABLE_KEYS, "queues"))
    return f"no such key: expected one of {known}"


def _shown(key: str, value: Any) -> str:
    """Return an invalid value as an error shows it: without the password of an address."""
    if key != "backend" or not isinstance(value, str):
        return repr(value)
    from jobq.config.redis_url import mistyped_address

    return repr(mistyped_address(value) or value)


def _absolute(value: str, base: Path | None) -> Path:
    return (base or Path()) / Path(value).expanduser()


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use, which `taskset` and the like limit."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
