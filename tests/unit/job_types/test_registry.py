import sys
from importlib import metadata
from pathlib import Path

import pytest

from jobq.errors import NotFound, UsageError, WorkerLoadError
from jobq.job_types import registry
from jobq.job_types.registry import Registry, load, require_types
from jobq.job_types.worker import JobWorker
from tests.unit.job_types.worker_files import HEAD, Write, worker


def complaints(found: Registry) -> str:
    return "\n".join(map(str, found.errors))


# -- finding -----------------------------------------------------------------------------------


def test_worker_classes_are_found_beside_the_built_in_type(write: Write) -> None:
    file = write("tile.py", worker("tile"))
    found = load([file.parent])
    assert set(found.types) == {"shell", "tile"}
    assert (found.get("tile").source, found.get("shell").source) == (str(file), "built in")
    assert found.errors == []


def test_the_first_paragraph_of_the_docstring_describes_a_type(write: Write) -> None:
    text = worker("tile").replace(":\n", ':\n    """Cut an\n    image.\n\n    At length."""\n', 1)
    assert load([write("tile.py", text).parent]).get("tile").description == "Cut an image."


def test_a_type_without_a_docstring_has_no_borrowed_description(write: Write) -> None:
    assert load([write("tile.py", worker("tile")).parent]).get("tile").description == ""


def test_bases_and_imported_classes_are_no_types(write: Write) -> None:
    write(
        "base.py",
        """
        from abc import abstractmethod
        class _Base(JobWorker):
            def run(self, args, job): ...
        class Abstract(JobWorker):
            job_type = "abstract"
            @abstractmethod
            def cut(self): ...
        """,
    )
    file = write("tile.py", "from .base import _Base\nclass Tile(_Base):\n    job_type = 'tile'\n")
    found = load([file.parent])
    assert (set(found.types), found.errors) == ({"shell", "tile"}, [])


def test_a_file_that_is_no_module_is_named(write: Write) -> None:
    write("not-a-module.py", "raise SystemExit")
    file = write("__init__.py", "raise SystemExit")
    (error,) = load([file.parent]).errors
    assert "not-a-module.py: not the name of a Python module" in str(error)


def test_a_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    assert load([tmp_path / "nowhere"]).errors == []


def test_files_of_a_folder_can_import_each_other(write: Write) -> None:
    write("common.py", "SIZES = [1, 2]\n")
    write("sub/__init__.py", "")
    write("sub/deep.py", "DEEP = 3\n")
    text = worker("tile", "size: Literal[1, 2, 3] = DEEP")
    file = write("a_tile.py", "from .common import SIZES\nfrom .sub.deep import DEEP\n" + text)
    found = load([file.parent])
    assert complaints(found) == ""
    assert found.get("tile").parse({"size": 2}) == {"size": 2}


def test_two_folders_may_have_files_of_one_name(write: Write, tmp_path: Path) -> None:
    write("tile.py", worker("tile"))
    write("../more/tile.py", "from .other import NAME\n" + worker("cut"))
    write("../more/other.py", "NAME = 1\n")
    found = load([tmp_path / "workers", tmp_path / "more"])
    assert (set(found.types), complaints(found)) == ({"shell", "tile", "cut"}, "")


def test_the_same_folder_is_loaded_once(write: Write, tmp_path: Path) -> None:
    folder = write("tile.py", "import sys\nsys.loaded_by_test.append(1)\n" + worker("tile")).parent
    (tmp_path / "link").symlink_to(folder)
    sys.loaded_by_test = []  # type: ignore[attr-defined]
    found = load([folder, tmp_path / "link", folder / ".." / folder.name])
    assert (set(found.types), complaints(found)) == ({"shell", "tile"}, "")
    assert sys.loaded_by_test == [1]  # type: ignore[attr-defined]
    del sys.loaded_by_test  # type: ignore[attr-defined]


# -- what goes wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("x = = 1", "SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_does_not_import_takes_only_its_own_types(
    write: Write, text: str, what: str
) -> None:
    write("good.py", worker("good"))
    file = write("bad.py", f"{text}\n{worker('bad')}")
    found = load([file.parent])
    assert set(found.types) == {"shell", "good"}
    line = HEAD.count("\n") + 1
    assert complaints(found) == f"{file}:{line}: does not import: {what}"
    with pytest.raises(UsageError, match=r"known are good, shell; .*bad\.py"):
        found.get("bad")


def test_a_file_that_imports_a_bad_one_is_reported_at_its_own_line(write: Write) -> None:
    bad = write("zz_bad.py", "raise ValueError('odd')\n")
    file = write("tile.py", "from . import zz_bad\n" + worker("tile"))
    found = load([file.parent])
    line = HEAD.count("\n") + 1
    assert [str(error).split(": ")[0] for error in found.errors] == [
        f"{file}:{line}",
        f"{bad}:{line}",
    ]


def test_the_same_type_twice_names_both_files(write: Write) -> None:
    first, second = write("a.py", worker("tile")), write("b.py", worker("tile"))
    found = load([first.parent])
    assert complaints(found) == f"job type 'tile' is in two places: {first} and {second}"
    with pytest.raises(UsageError, match="in two places"):
        found.get("tile")


def test_a_clash_takes_no_other_type_of_its_file(write: Write) -> None:
    write("a.py", worker("tile"))
    file = write("b.py", worker("tile", name="One") + worker("cut", name="Two"))
    assert set(load([file.parent]).types) == {"shell", "tile", "cut"}


def test_the_name_of_the_built_in_type_is_taken(write: Write) -> None:
    file = write("a.py", worker("shell"))
    found = load([file.parent])
    assert "built in" in complaints(found)
    assert found.get("shell").worker is None


@pytest.mark.parametrize("name", ["", "Tile", "a b", "x" * 65, "ż"])
def test_an_odd_name_is_reported(write: Write, name: str) -> None:
    file = write("a.py", worker(name))
    found = load([file.parent])
    assert set(found.types) == {"shell"}
    assert complaints(found).startswith(f"{file}: Worker.job_type is {name!r}")


def test_args_that_are_no_model_are_reported_when_they_are_needed(write: Write) -> None:
    text = worker("tile").replace("    def", "    Args = dict\n    def", 1)
    with pytest.raises(WorkerLoadError, match=r"Worker\.Args is not a pydantic model"):
        load([write("a.py", text).parent]).get("tile").parse({})


def test_installed_entry_points_are_types_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed(JobWorker):
        job_type = "installed"

        def run(self, args: object, job: object) -> None: ...

    points = [
        metadata.EntryPoint("good", "some.module:Installed", registry.ENTRY_POINTS),
        metadata.EntryPoint("bad", "nowhere.at.all:Installed", registry.ENTRY_POINTS),
    ]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points)
    module = type(sys)("some.module")
    module.Installed = Installed  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "some", type(sys)("some"))
    monkeypatch.setitem(sys.modules, "some.module", module)
    found = load([])
    assert found.get("installed").worker is Installed
    assert "entry point bad (nowhere.at.all:Installed): does not import" in complaints(found)


def test_types_that_are_asked_for_must_be_there() -> None:
    require_types(Registry(), ["shell"])
    with pytest.raises(NotFound, match="tile"):
        require_types(Registry(), ["shell", "tile"])


def test_an_entry_point_of_an_installed_package_may_name_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "acme_workers.py").write_text(
        "from jobq import JobWorker, job_type\n"
        "print('loud')\n"
        "@job_type('one')\ndef one(): ...\n"
        "class Two(JobWorker):\n    job_type = 'two'\n    def run(self, args, job): ...\n"
    )
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[jobq.workers]\nacme = acme_workers\nagain = acme_workers:one\nend = acme_end\n"
    )
    (tmp_path / "acme_end.py").write_text("raise SystemExit\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = load([])
    assert set(found.types) == {"shell", "one", "two"}
    assert found.types["one"].source == "entry point acme (acme_workers)"
    again, end = sorted(map(str, found.errors))
    assert "job type 'one' is in two places" in end + again
    assert "entry point end (acme_end): does not import: SystemExit" in end + again
    assert capfd.readouterr().out == ""
