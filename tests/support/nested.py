"""Directories nested deeper than a path may be long."""

import os
from pathlib import Path

from jobq.system.directory_tree import delete_tree


def nest(top: Path, depth: int, *, age_s: float = 0.0) -> None:
    """Make directories one in the other, each with an old file of a byte."""
    top.mkdir(parents=True, exist_ok=True)
    here = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        file = os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here)
        os.write(file, b"x")
        then = os.fstat(file).st_mtime - age_s
        os.utime(file, (then, then))
        os.close(file)
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def remove(top: Path) -> None:
    """Delete such directories, which pytest can't."""
    above = os.open(top.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in delete_tree(above, top.name, top.parent):
            pass
    finally:
        os.close(above)
