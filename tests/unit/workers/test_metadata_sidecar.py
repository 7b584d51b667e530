"""`metadata_extraction`: the file that it writes beside the media, and those that it leaves alone."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from jobq import Permanent
from tests.support.media import make_clip
from tests.support.workers import Extract


def test_sidecar_is_private_and_holds_the_result(extract: Extract, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", audio=False, tags={"title": "Grüße"})

    done = extract(path, sidecar=True)

    sidecar = tmp_path / "clip.mp4.json"
    assert json.loads(sidecar.read_text("utf-8")) == done.result
    assert "Grüße" in sidecar.read_text("utf-8")
    assert stat.S_IMODE(sidecar.stat().st_mode) == 0o600
    assert str(sidecar) in done.log
    assert sorted(tmp_path.iterdir()) == [path, sidecar]


def test_without_being_asked_for_there_is_no_sidecar(extract: Extract, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", audio=False)

    extract(path)

    assert list(tmp_path.iterdir()) == [path]


def test_an_earlier_sidecar_is_replaced(extract: Extract, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", audio=False)
    extract(path, sidecar=True, checksum=False)
    (tmp_path / "clip.mp4").rename(tmp_path / "other.mp4")
    (tmp_path / "clip.mp4.json").rename(tmp_path / "other.mp4.json")

    done = extract(tmp_path / "other.mp4", sidecar=True)

    assert done.error is None
    assert json.loads((tmp_path / "other.mp4.json").read_text("utf-8")) == done.result


def own_file(place: Path) -> None:
    place.write_text('{"title": "IMG_1", "photoTakenTime": {"timestamp": "1"}}')


def own_text(place: Path) -> None:
    place.write_text("null")


def own_list(place: Path) -> None:
    place.write_text("[" * 100_000)


def own_link(place: Path) -> None:
    (place.parent / "precious").write_text("precious")
    place.symlink_to("precious")


def identity(path: Path) -> tuple[int, ...]:
    found = path.lstat()
    return found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@pytest.mark.parametrize("put", [own_file, own_text, own_list, own_link, Path.mkdir, os.mkfifo])
def test_what_is_no_sidecar_is_never_replaced_and_nothing_is_read_in_vain(
    extract: Extract, tmp_path: Path, put: Callable[[Path], object]
) -> None:
    path = make_clip(tmp_path / "IMG_1.MP4", audio=False)
    own = tmp_path / "IMG_1.MP4.json"
    put(own)
    before = identity(own)

    done = extract(path, sidecar=True)

    assert isinstance(done.error, Permanent)
    assert str(done.error) == (
        f"{own}: already exists, and is no sidecar of jobq: move it away, or leave out `sidecar`"
    )
    assert done.progress == []
    assert identity(own) == before
    assert not [item for item in tmp_path.iterdir() if item.name.startswith(".jobq")]


def test_a_file_that_is_put_in_the_place_of_the_sidecar_meanwhile_stays(
    extract: Extract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_clip(tmp_path / "clip.mp4", audio=False)
    own = tmp_path / "clip.mp4.json"
    sync = os.fsync

    def put(descriptor: int) -> None:
        own_file(own)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", put)

    assert isinstance(extract(path, sidecar=True).error, Permanent)
    assert "photoTakenTime" in own.read_text()
    assert sorted(tmp_path.iterdir()) == [path, own]


def test_a_name_too_long_for_a_sidecar_fails_for_good_before_anything_is_read(
    extract: Extract, tmp_path: Path
) -> None:
    path = make_clip(tmp_path / f"{'x' * 247}.mp4", audio=False)

    done = extract(path, sidecar=True)

    assert isinstance(done.error, Permanent)
    assert str(done.error).endswith(".mp4.json: no sidecar can be written: File name too long")
    assert done.progress == []
    assert extract(path).error is None


def test_a_directory_that_cannot_be_written_to_fails_for_good_before_anything_is_read(
    extract: Extract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_clip(tmp_path / "clip.mp4", audio=False)
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for a file system that is read-only

    done = extract(path, sidecar=True)

    assert isinstance(done.error, Permanent)
    assert str(done.error) == f"{tmp_path}: not writable: no sidecar can be written"
    assert done.progress == []
