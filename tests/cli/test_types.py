from pathlib import Path
from typing import Any

import pytest

from jobq.cli.commands.types import arguments_of, kind_of
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
