import os
import sys
from importlib import import_module
from pathlib import Path

import pytest

from jobq.job_types.worker_files import WorkerLoader, code_digest, file_states, files_below


def test_states_differ_once_a_file_was_changed_added_or_deleted(tmp_path: Path) -> None:
    folder, deep = tmp_path / "workers", tmp_path / "workers" / "deep.d" / "more.py"
    assert file_states([folder]) == {}
    deep.parent.mkdir(parents=True)
    deep.touch()
    (folder / "a.py").write_text("1")
    (folder / ".#a.py").symlink_to("nobody@nowhere")
    (folder / "notes.txt").touch()
    first = file_states([folder], [str(deep)])
    assert set(first) == {str(folder / "a.py"), str(deep)}
    assert file_states([folder], first) == first
    (folder / "a.py").write_text("2")
    assert file_states([folder], first) != first
    deep.unlink()
    assert file_states([folder], first)[str(deep)] is None


def test_a_digest_covers_what_its_package_has_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "digested_by_test"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "part.py").write_text("A = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import_module("digested_by_test.part")
    assert files_below([package]) == [str(package / "__init__.py"), str(package / "part.py")]
    first = code_digest.__wrapped__("digested_by_test")
    assert first == code_digest.__wrapped__("digested_by_test")
    (package / "part.py").write_text("A = 2\n")
    assert code_digest.__wrapped__("digested_by_test") != first
    for name in [name for name in sys.modules if name.startswith("digested_by_test")]:
        del sys.modules[name]


def test_no_compiled_code_is_kept_of_a_file_that_has_just_changed(tmp_path: Path) -> None:
    source, kept = tmp_path / "a.py", tmp_path / "a.pyc"
    source.touch()
    loader = WorkerLoader("a", str(source))
    loader.set_data(str(kept), b"code")
    assert not kept.exists()
    os.utime(source, (1e9, 1e9))
    loader.set_data(str(kept), b"code")
    assert kept.read_bytes() == b"code"
