"""Progress: what jobs may write, and what of it is read."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobq.logs import progress
from jobq.logs.progress import ProgressFile, parse
from jobq.models import Progress


@pytest.mark.parametrize(
    ("text", "done", "total", "message"),
    [
        ("40/100 encoding\n", 40, 100, "encoding"),
        ("40 / 100", 40, 100, None),
        ("40%", 40, 100, None),
        ("40.5% nearly", 40.5, 100, "nearly"),
        ("40 files", 40, None, "files"),
        ("1/4 one\n2/4 two\n", 2, 4, "two"),  # the last line counts
        ('[1, 4, "one"]', 1, 4, "one"),
        ("[1, null, null]   ", 1, None, None),
    ],
)
def test_progress_is_read(text: str, done: float, total: float | None, message: str | None) -> None:
    assert parse(text) == Progress(done, total, message)


@pytest.mark.parametrize(
    "text",
    ["", " \n", "encoding", "-1", "[]", "[1, 2]", "[1, 2, 3]", '["x", 1, ""]', "[1e999, null, null]",
     "[" * 100_000, "9" * 400, "1/" + "9" * 400],
)  # fmt: skip
def test_what_makes_no_sense_is_none(text: str) -> None:
    assert parse(text) is None


@given(st.text('0123456789/%.- e\n[],"x'))
def test_no_text_fails(text: str) -> None:
    parse(text)


def test_a_worker_writes_what_is_read_back_at_the_same_place(tmp_path: Path) -> None:
    file = ProgressFile(tmp_path)
    folder = os.open(tmp_path, os.O_RDONLY)
    assert progress.read(folder) is None
    for each in (Progress(1, 4, "a long message"), Progress(2, None, None)):
        file.write(each)
        assert progress.read(folder) == each
    assert file.is_written
    assert (tmp_path / progress.FILE).stat().st_size == 4096
    file.close()
    file.close()
    os.close(folder)


def test_a_link_or_a_fifo_in_its_place_is_not_read(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    (tmp_path / "elsewhere").write_text("40%")
    (tmp_path / progress.FILE).symlink_to("elsewhere")
    assert progress.read(folder) is None
    ProgressFile(tmp_path).write(Progress(1, None, None))
    assert (tmp_path / "elsewhere").read_text() == "40%"
    (tmp_path / progress.FILE).unlink()
    os.mkfifo(tmp_path / progress.FILE)
    assert progress.read(folder) is None
    os.close(folder)


def test_a_disk_that_is_full_loses_progress_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    file = ProgressFile(tmp_path)
    file.write(Progress(1, None, None))
    assert not file.is_written
    file.close()


def test_a_message_is_bounded(tmp_path: Path) -> None:
    ProgressFile(tmp_path).write(Progress(1, None, "x" * 100_000))
    text = (tmp_path / progress.FILE).read_text()
    assert len(text) == 4096
    assert len(json.loads(text)[2]) < 300
