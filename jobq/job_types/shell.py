"""The built-in job type ``shell``: a command, as a list of arguments or as text for ``sh``."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jobq.config.settings import is_variable
from jobq.errors import ArgsError
from jobq.models import JsonObject

JOB_TYPE = "shell"
DESCRIPTION = "Run a command."

MAX_ARGUMENT_BYTES = 131_071
"""Of one argument or variable: Linux's MAX_ARG_STRLEN, 32 pages, less the closing NUL."""

MAX_COMMAND_BYTES = 1_900_000
"""Of all arguments and variables: below Linux's usual 2 MiB, with room for jobq's variables."""

OWN_STDIN = "-"
"""The value of ``stdin`` for the file ``stdin`` in the job's own log directory."""


@dataclass(frozen=True, slots=True)
class ShellArgs:
    """The arguments of a shell job."""

    argv: list[str] = field(default_factory=list)  # the command and its arguments
    shell: str | None = None  # in place of argv: text for `sh -c`
    cwd: str | None = None  # absolute; None: the supervisor's
    env: dict[str, str] = field(default_factory=dict)  # added to the supervisor's environment
    stdin: str | None = None  # a file's path; "-": the job's own `stdin` file

    def command(self) -> list[str]:
        """Return the command to execute."""
        return ["/bin/sh", "-c", self.shell] if self.shell is not None else self.argv


def parse(args: Mapping[str, Any]) -> JsonObject:
    """Check the arguments of a shell job and return what is stored of them.

    Raises:
        ArgsError: something is missing, unknown, of the wrong type, or too long for the system.
    """
    for name in args:
        if name not in _KNOWN:
            raise ArgsError(f"shell: no argument {name!r:.80}: it takes {', '.join(_KNOWN)}")
    argv, text, env = args.get("argv", []), args.get("shell"), args.get("env", {})
    short = _is_short(argv)
    _check_command(argv, text, short=short)
    for name in ("shell", "cwd", "stdin"):
        if (value := args.get(name)) is not None:
            _check_text(name, value)
    if (cwd := args.get("cwd")) is not None and not os.path.isabs(cwd):
        raise ArgsError(f"shell: cwd: {cwd!r:.80} is not an absolute path")
    if env != {}:
        _check_env(env)
    if env or text or not short:
        _check_size(ShellArgs(**dict(args)))
    # Copied, since the caller may change its lists and objects later.
    return {
        name: value if isinstance(value, str) else value.copy()
        for name, value in args.items()
        if value not in _NOTHING
    }


_KNOWN = dict.fromkeys(ShellArgs.__dataclass_fields__)
_NOTHING: tuple[Any, ...] = (None, [], {})


def _check_command(argv: Any, text: Any, *, short: bool) -> None:
    if not short and not (isinstance(argv, list) and all(isinstance(item, str) for item in argv)):
        raise ArgsError("shell: argv: expected a list of strings")
    if bool(argv) == (text is not None):
        raise ArgsError("shell: give a command: `jobq add -- COMMAND ARG…` or --shell 'TEXT'")
    if isinstance(text, str) and not text.strip():
        raise ArgsError("shell: shell: is empty")
    if argv and not argv[0]:
        raise ArgsError("shell: argv[0]: the command is empty: `jobq add -- COMMAND ARG…`")
    if not short:
        for place, item in enumerate(argv):
            _check_text(f"argv[{place}]", item)


def _is_short(argv: Any) -> bool:
    """Return whether these are valid strings, far below all limits together, as most are."""
    if not isinstance(argv, list):
        return False
    try:
        together = "\0".join(argv)
        return len(together.encode()) < MAX_ARGUMENT_BYTES and together.count("\0") < max(
            1, len(argv)
        )
    except (TypeError, UnicodeEncodeError):
        return False


def _check_env(env: Any) -> None:
    if not isinstance(env, dict):
        raise ArgsError("shell: env: expected an object of strings")
    for name, value in env.items():
        if not isinstance(name, str) or not is_variable(name):
            raise ArgsError(
                f"shell: env: {name!r:.80} is not the name of a variable: give letters, digits "
                "and underscores, and no digit first"
            )
        # The system takes NAME=VALUE as one string.
        _check_text(f"env.{name}", value, extra_bytes=len(name.encode()) + 1)


def _check_text(where: str, value: Any, *, extra_bytes: int = 0) -> None:
    if not isinstance(value, str):
        raise ArgsError(f"shell: {where}: expected text, got {type(value).__name__}")
    if "\0" in value:
        raise ArgsError(f"shell: {where}: contains a NUL byte, which can't be passed to a program")
    try:
        size = extra_bytes + len(value.encode())
    except UnicodeEncodeError:
        raise ArgsError(f"shell: {where}: not valid UTF-8: {value!r:.80}") from None
    if size > MAX_ARGUMENT_BYTES:
        raise ArgsError(
            f"shell: {where}: {size:,} bytes, and the system takes at most {MAX_ARGUMENT_BYTES:,} "
            "in one argument: put it in a file, or pass it with --stdin"
        )


def _check_size(given: ShellArgs) -> None:
    texts = [*given.command(), *given.env.keys(), *given.env.values()]
    size = sum(len(os.fsencode(text)) + 9 for text in texts)  # and a pointer and a NUL each
    if size > MAX_COMMAND_BYTES:
        raise ArgsError(
            f"shell: the command is {size:,} bytes long, and the system takes at most "
            f"{MAX_COMMAND_BYTES:,}: put the arguments in a file"
        )


def schema() -> JsonObject:
    """Return the arguments as a JSON Schema."""
    from pydantic import TypeAdapter  # 40 ms, and only for `jobq types`

    return TypeAdapter(ShellArgs).json_schema()
