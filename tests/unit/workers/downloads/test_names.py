"""File names and keys made from untrusted titles and ids."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from jobq import JobQueue
from tests.support.local_site import (
    Site,
    breaks_off,
    clip,
)
from tests.support.workers import Download


@pytest.fixture(scope="session")
def names(package: str) -> Any:
    return import_module(f"{package}.downloads.names")


HOSTILE = [
    "../../.bashrc",
    "/etc/passwd",
    "..",
    ".",
    "",
    "   ",
    "~/.ssh/authorized_keys",
    "$(id)",
    "`id`; rm -rf ~ #",
    "-rf --exec=id",
    "%(id)s %s %n %% $HOME ${HOME}",
    "a\0b",
    "line\nbreak\r\ttab",
    "\x1b]0;owned\x07\x1b[2J\x7f\x9b31m",
    "C:\\Windows\\..\\system32\\con",
    "ends with dots ...",
    "x" * 300,
    "ü" * 300,
    "🎬" * 300,
    "👨\u200d👩\u200d👧 family",
    "\u202egnp.exe",
    "\ud800 half a character",
    "e\u0301" * 200,
    "\u2215\uff0f\u29f8 slashes of other kinds",
    ".part",
]


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("title", HOSTILE, ids=range(len(HOSTILE)))
def test_no_title_leads_out_of_the_directory(
    download: Download, site: Site, queue: JobQueue, tmp_path: Path, out: Path, title: str
) -> None:
    database = queue.settings.database
    own = {database.with_suffix(f".downloads.{suffix}") for suffix in ("jsonl", "lock")}
    before = files_below(tmp_path) | own
    url = site.page("/odd.mp4", breaks_off())
    title = title.encode(errors="replace").decode()

    download(url, title=title)
    partial = files_below(tmp_path) - before
    done = download(url, title=title)

    assert done.error is None
    (new,) = files_below(tmp_path) - before
    for path in (new, *partial):
        assert os.path.realpath(path.parent) == os.path.realpath(out)
        assert path.name[0] not in "-.~ "
        assert path.name.isprintable() or "\u200d" in title
        assert len(os.fsencode(path.name)) <= 255
    assert sorted(path.name for path in partial) == [f"{new.name}.part", f"{new.name}.part.ytdl"]
    assert new.suffix == ".mp4"
    assert new.read_bytes() == clip()


@pytest.mark.parametrize("title", HOSTILE, ids=range(len(HOSTILE)))
def test_names_leave_room_for_what_yt_dlp_adds(names: Any, title: str) -> None:
    stem = names.file_stem(title, "youtube:" + "x" * 40, 99_999)

    assert "/" not in stem
    assert len(f"{stem}.f{'9' * 30}.unknown_video.part-Frag99999.part".encode()) <= 255


@pytest.mark.parametrize(
    ("title", "stem"),
    [
        ("A talk", "A talk [abc]"),
        ("  A\n talk ", "A talk [abc]"),
        ("AC/DC: Live?", "AC_DC_ Live_ [abc]"),
        ("../../.bashrc", "bashrc [abc]"),
        ("$(id)", "$(id) [abc]"),
        ("...", "untitled [abc]"),
        ("e\u0301te\u0301", "été [abc]"),
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧 [abc]"),
        ("ü" * 300, "ü" * 60 + " [abc]"),
        ("🎬" * 31, "🎬" * 30 + " [abc]"),
    ],
)
def test_what_names_are_like(names: Any, title: str, stem: str) -> None:
    assert names.file_stem(title, "youtube:abc") == stem


def test_ids_that_are_not_plain_become_digests(names: Any) -> None:
    ids = {names.file_id(key) for key in ("x:../a", "x:a/b", "x:" + "a" * 41, "x:", "y:../a")}

    assert len(ids) == 5
    assert all(len(one) == 16 and one.isalnum() for one in ids)


def test_keys_are_of_bounded_length(names: Any) -> None:
    assert names.item_key("Youtube", "dQw4") == "youtube:dQw4"
    for odd in ("a" * 5000, "a\nb", "a\0b"):
        key = names.item_key("Generic", odd)
        assert key.startswith("generic:sha256-")
        assert key != names.item_key("Generic", odd + "!")
