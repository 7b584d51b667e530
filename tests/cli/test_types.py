import shlex
from pathlib import Path
from typing import Any

import pytest

from jobq.cli.commands.types import arguments_of, example, kind_of
from jobq.job_types.registry import load
from tests.support.cli_runner import Cli

WORKER = '''
from typing import Literal
from pydantic import BaseModel, Field
from jobq import JobContext, JobWorker

class Thumbnail(JobWorker):
    """Shrink a picture.

    More about it.
    """
    job_type = "thumbnail"

    class Args(BaseModel):
        path: str = Field(description="which picture")
        width: int = Field(description="in pixels", examples=[320])
        mode: Literal["fit", "fill"] = "fit"
        tags: list[str] = []
        note: str | None = None

    def run(self, args: Args, job: JobContext) -> None:
        pass
'''


@pytest.fixture
def workers(project: Path) -> Path:
    folder = project / "workers"
    folder.mkdir()
    (folder / "thumbnail.py").write_text(WORKER)
    return folder


def test_types_are_listed(cli: Cli, workers: Path) -> None:
    result = cli("types")
    assert result.code == 0
    rows = {line.split()[0]: line for line in result.lines}
    assert "Shrink a picture." in rows["thumbnail"]
    assert rows["thumbnail"].split()[1] == "workers/thumbnail.py"
    assert rows["thumbnail"].endswith("Shrink a picture.")
    assert " built in " in rows["shell"]
    assert rows["example"].split()[1] == "bundled"
    assert "/workers/example.py" in cli("types", "example").out


def test_types_as_documents(cli: Cli, workers: Path) -> None:
    documents = {each["type"]: each for each in cli("types", "--json").json}
    assert {"shell", "thumbnail", "example"} <= set(documents)
    for document in documents.values():
        assert list(document) == ["type", "description", "source", "args_schema"]
    assert documents["thumbnail"]["args_schema"]["required"] == ["path", "width"]
    assert cli("types", "thumbnail", "--json").json == documents["thumbnail"]


def test_worker_files_that_do_not_import_are_reported(cli: Cli, workers: Path) -> None:
    (workers / "broken.py").write_text("import nothing_of_the_kind\n")
    result = cli("types")
    assert result.code == 0
    assert "thumbnail" in result.out
    assert "broken.py:1: does not import" in result.err
    unknown = cli("types", "broken")
    assert unknown.code == 2
    assert "broken.py:1" in unknown.err


def test_the_arguments_of_a_type(cli: Cli, workers: Path) -> None:
    shown = cli("types", "thumbnail")
    assert "jobq add thumbnail path=TEXT width=320" in shown.out
    for text in ("string, required", "which picture", '"fit" | "fill", default "fit"'):
        assert text in shown.out
    assert "jobq add -- COMMAND" in cli("types", "shell").out


def test_kinds_of_arguments() -> None:
    schema: dict[str, Any] = {
        "$defs": {"Mode": {"enum": ["a", 1], "type": "string"}},
        "properties": {
            "mode": {"$ref": "#/$defs/Mode"},
            "one": {"const": "x"},
            "either": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
            "many": {"type": "array", "items": {"type": "string", "format": "path"}},
            "open": {},
        },
    }
    kinds = {name: kind_of(about, schema) for name, about in schema["properties"].items()}
    assert kinds == {
        "mode": '"a" | 1',
        "one": '"x"',
        "either": "integer",
        "many": "list of path",
        "open": "anything",
    }
    assert dict(arguments_of(schema))["either"] == "integer"


ALL_KINDS = """
import datetime, enum, uuid
import shlex
from pathlib import Path
from typing import Annotated, Literal
from pydantic import BaseModel, Field, HttpUrl
from jobq import job_type

class Mode(enum.Enum):
    FIT = "fit"

class Box(BaseModel):
    width: int = Field(ge=16)
    name: str

@job_type("kinds")
def kinds(
    path: Path, text: str, count: Annotated[int, Field(ge=10)], share: float, mode: Mode,
    how: Literal["fit", "fill"], on: bool, day: datetime.date, at: datetime.datetime,
    wait: datetime.timedelta, link: HttpUrl, id: uuid.UUID, ports: list[int], tags: set[str],
    labels: dict[str, str], box: Box, either: int | str, maybe: str | None,
): ...

@job_type("optional")
def optional(width: int = 320): ...
"""


def test_the_command_line_of_a_type_can_be_copied(cli: Cli, workers: Path) -> None:
    (workers / "kinds.py").write_text(ALL_KINDS)
    registry = load([workers])
    assert registry.errors == []
    for job_type in registry.types.values():
        if job_type.worker is not None:
            jobq, add, name, *words = shlex.split(example(job_type))
            assert (jobq, add, name) == ("jobq", "add", job_type.name)
            assert job_type.parse(job_type.parse_words(words)).keys() >= set(
                job_type.schema().get("required", ())
            )
    assert example(registry.types["optional"]) == "jobq add optional width=320"
    assert example(registry.types["kinds"]).startswith(
        "jobq add kinds path=FILE text=TEXT count=10"
    )
