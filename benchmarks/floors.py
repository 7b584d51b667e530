"""Floors: the least that the same thing can cost, without jobq."""

import fcntl
import os
import sqlite3
import sys
import time
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import get_args

from jobq.cli.command_table import VERBS
from jobq.cli.parsing.typer_adapter import app_of

_TYPER_APP = """
from typing import Annotated
import typer
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
@app.command()
def command(
{options}
) -> None:
    print(1)
app()
"""

STANDARD_LIBRARY = "import argparse, sqlite3, tomllib; argparse.ArgumentParser().parse_known_args()"


def typer_app(folder: Path, verb: str, *words: str) -> list[str]:
    """Return a command line for a Typer app whose one command has a verb's options and does nothing.

    It is a module, so that its byte code is cached like jobq's.
    """
    declared = import_module(VERBS[verb])
    verb_app = app_of(declared.command)
    callback = verb_app.registered_commands[0].callback
    assert callback
    lines = []
    for name, parameter in signature(callback, eval_str=True).parameters.items():
        if name == "ctx":
            continue
        kind, info, *_ = get_args(parameter.annotation)
        first = [info.default] if isinstance(info.default, str) else []  # as Annotated has it
        names = ", ".join(map(repr, [*first, *(info.param_decls or ())]))
        where = type(info).__name__.removesuffix("Info")
        if type(kind) is type:  # not list[str], whose text is what is typed
            kind = kind.__name__
        value = "" if parameter.default is Parameter.empty else f" = {parameter.default!r}"
        lines.append(f"    {name}: Annotated[{kind}, typer.{where}({names})]{value},")
    module = f"floor_{verb}"
    (folder / f"{module}.py").write_text(_TYPER_APP.format(options="\n".join(lines)))
    return [sys.executable, "-c", f"import {module}", *words]


def bare_database(
    like: Path, path: Path, *tables: str, triggers: bool = False
) -> sqlite3.Connection:
    """Create a database with these tables and indexes, as durable as ours, with a log like ours.

    Such a log is overwritten from its start every 4 MiB, which is SQLite's default.
    """
    source = sqlite3.connect(like)
    bare = bare_connection(path)
    bare.execute("PRAGMA journal_mode = WAL")
    for kind in ("table", "index", "trigger") if triggers else ("table", "index"):
        for table in tables:
            for (sql,) in source.execute(
                "SELECT sql FROM sqlite_schema WHERE tbl_name = ? AND type = ? AND sql IS NOT NULL",
                (table, kind),
            ):
                bare.execute(sql)
    source.close()
    return bare


def bare_connection(path: Path) -> sqlite3.Connection:
    """Open a connection that commits as durably as ours."""
    bare = sqlite3.connect(path, isolation_level=None)
    bare.execute("PRAGMA synchronous = FULL")
    return bare


INSERT = (
    "INSERT INTO job_queue (type, status, queue, priority, args, max_retries, retry_base, "
    "created_at) VALUES ('shell', 'pending', 'default', 5, '{\"argv\":[\"true\"]}', 3, 10.0, 1.0)"
)


def insert_in_turn(bare: sqlite3.Connection, write_lock: int) -> None:
    """Do the least that an add consists of: take a turn, read the schema's version and the queue, insert."""
    fcntl.flock(write_lock, fcntl.LOCK_EX)
    bare.execute("BEGIN IMMEDIATE")
    bare.execute("PRAGMA user_version").fetchone()
    bare.execute("SELECT name, timeout, max_retries FROM queues WHERE name = 'default'").fetchone()
    bare.execute(INSERT)
    bare.execute("COMMIT")
    fcntl.flock(write_lock, fcntl.LOCK_UN)


def spawned(folder: Path, jobs: int, slots: int) -> float:
    """Return commands per second if each only has a directory, two files and a process.

    Nothing is read, and nothing is recorded.
    """
    folder.mkdir()
    start = time.perf_counter()
    running = 0
    for number in range(jobs):
        if running == slots:
            os.wait()
            running -= 1
        _spawn(folder / str(number))
        running += 1
    for _ in range(running):
        os.wait()
    return jobs / (time.perf_counter() - start)


def _spawn(folder: Path) -> None:
    os.mkdir(folder, 0o700)
    files = [
        os.open(f"{folder}/{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for name in ("stdout", "stderr")
    ]
    actions = [(os.POSIX_SPAWN_DUP2, file, at) for at, file in enumerate(files, 1)]
    os.posix_spawn("/bin/true", ["true"], os.environ, file_actions=actions, setpgroup=0)
    for file in files:
        os.close(file)


def handed_over(folder: Path, jobs: int, slots: int) -> float:
    """Return jobs per second that forked Python processes are given one by one, and answer.

    Each has a directory, and descriptors 1 and 2 on two files of its own: nothing is recorded.
    """
    folder.mkdir()
    here, there = zip(*(os.pipe() for _ in range(slots)), strict=True), os.pipe()
    ins, outs = here
    pids = [_child(ins[slot], there[1], folder, slot) for slot in range(slots)]
    start = time.perf_counter()
    for number in range(jobs):
        slot = number if number < slots else os.read(there[0], 1)[0]
        os.write(outs[slot], number.to_bytes(4, "big"))
    for _ in range(min(slots, jobs)):
        os.read(there[0], 1)
    taken = time.perf_counter() - start
    for descriptor in (*ins, *outs, *there):
        os.close(descriptor)
    for pid in pids:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return jobs / taken


def _child(jobs: int, answers: int, folder: Path, slot: int) -> int:
    if pid := os.fork():
        return pid
    while number := os.read(jobs, 4):
        own = folder / str(int.from_bytes(number, "big"))
        os.mkdir(own, 0o700)
        for at, name in enumerate(("stdout", "stderr"), 1):
            file = os.open(f"{own}/{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(file, at)
            os.close(file)
        os.write(answers, bytes([slot]))
    os._exit(0)
