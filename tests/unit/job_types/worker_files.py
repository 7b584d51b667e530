"""The text of files with workers."""

from collections.abc import Callable
from pathlib import Path

Write = Callable[..., Path]
"""A function that writes a file of this name and text into the folder of workers."""

HEAD = """
from pathlib import Path
from typing import Any, Literal
from pydantic import BaseModel
from jobq import JobWorker
"""


def worker(job_type: str, args: str = "", name: str = "Worker") -> str:
    lines = [f"class {name}(JobWorker):", f"    job_type = {job_type!r}"]
    if args:
        lines += ["    class Args(BaseModel):", *[f"        {line}" for line in args.split("; ")]]
    lines += ["    def run(self, args, job):", "        return args.model_dump()"]
    return "\n".join(lines) + "\n"
