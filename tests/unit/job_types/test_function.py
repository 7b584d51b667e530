"""Functions as workers."""

import asyncio
from pathlib import Path

import pytest

from jobq import ArgsError, JobContext, WorkerLoadError, job_type
from jobq.job_types.function import worker_of
from jobq.job_types.registry import Registry, load
from jobq.testing import run
from tests.unit.job_types.worker_files import Write

HEAD = "from jobq import job_type\n"


@job_type("thumbnail", max_retries=2, timeout=60)
def thumbnail(path: Path, width: int = 320, *, job: JobContext) -> str:
    """Make a thumbnail.

    At length.
    """
    job.progress(1, 1)
    return f"{path.name} {width} {job.attempt}"


def test_the_parameters_of_a_function_are_the_arguments_of_its_jobs() -> None:
    registry = Registry()
    registry.add(thumbnail, "here")
    found = registry.get("thumbnail")
    assert found.description == "Make a thumbnail."
    assert found.parse({"path": "/a", "width": "5"}) == {"path": "/a", "width": 5}
    with pytest.raises(ArgsError, match="thumbnail: no argument 'job': it takes path, width"):
        found.parse({"path": "/a", "job": 1})
    with pytest.raises(ArgsError, match="argument 'path' is missing"):
        found.parse({})
    worker = worker_of(thumbnail)
    assert (worker.max_retries, worker.timeout, worker.retry_base) == (2, 60, None)


def test_a_function_runs_with_its_arguments_and_the_context() -> None:
    done = run(thumbnail, {"path": "/tmp/a.png"}, attempt=3)
    assert (done.error, done.result) == (None, "a.png 320 3")
    assert [step.done for step in done.progress] == [1]


def test_an_async_function_is_awaited() -> None:
    @job_type("add")
    async def add(one: int, two: int = 2) -> int:
        await asyncio.sleep(0)
        return one + two

    assert run(add, {"one": 1}).result == 3


def test_a_function_can_still_be_called() -> None:
    @job_type("double")
    def double(number: int, job: JobContext | None = None) -> int:
        return number * 2 if job is None else number * 20

    assert double(2) == 4
    assert run(double, {"number": 2}).result == 40


@pytest.mark.parametrize("name", ["copy", "json", "model_config", "_hidden", "class_"])
def test_a_parameter_may_have_a_name_that_models_use(name: str) -> None:
    names: dict[str, object] = {"job_type": job_type}
    exec(f"@job_type('odd')\ndef odd({name}: int) -> int:\n    return {name}\n", names)
    registry = Registry()
    registry.add(names["odd"], "here")  # type: ignore[arg-type]
    assert registry.get("odd").parse({name: "1"}) == {name: 1}
    assert registry.get("odd").schema()["required"] == [name]
    assert run(names["odd"], {name: 1}).result == 1  # type: ignore[arg-type]


def test_functions_of_a_file_are_found(write: Write) -> None:
    write("common.py", f"{HEAD}@job_type('one')\ndef one() -> int:\n    return 1\n")
    text = (
        f"{HEAD}from .common import one\n@job_type('two')\ndef two(path: 'Path'): ...\nagain = two"
    )
    found = load([write("more.py", text).parent])
    assert (set(found.types), found.errors) == ({"shell", "one", "two"}, [])


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ("*files: str", "parameter '\\*files': arguments of jobs go by name"),
        ("**options: str", "go by name: name them, or take a dict"),
        ("file, /", "parameter 'file': arguments of jobs go by name"),
        ("job", "parameter 'job' has no type: write job: JobContext"),
        ("file: 'Nowhere'", "odd\\(\\): NameError: name 'Nowhere' is not defined"),
        ("file: type('Odd', (), {})", "no arguments can be of it: Unable to generate"),
    ],
)
def test_a_function_that_no_job_can_call_is_refused_at_load(
    write: Write, parameters: str, complaint: str
) -> None:
    file = write("odd.py", f"{HEAD}@job_type('odd')\ndef odd({parameters}): ...\n")
    found = load([file.parent])
    assert set(found.types) == {"shell"}
    with pytest.raises(WorkerLoadError, match=rf"odd\.py: .*{complaint}"):
        raise found.errors[0]


@pytest.mark.parametrize(
    "parameters", ["self, job", "self", "self, args, job, more", "self, *, job"]
)
def test_a_run_that_cannot_be_called_is_refused_at_load(write: Write, parameters: str) -> None:
    text = f"class Odd(JobWorker):\n    job_type = 'odd'\n    def run({parameters}): ...\n"
    (error,) = load([write("odd.py", text).parent]).errors
    assert f"Odd.run({parameters}): jobq calls run(self, args, job)" in str(error)


def test_the_decorator_says_what_it_takes() -> None:
    with pytest.raises(TypeError, match=r'@job_type\("thumbnail"\)'):
        job_type(thumbnail)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="goes over a function"):
        job_type("odd")(Path)
    with pytest.raises(WorkerLoadError, match="neither a JobWorker nor a function"):
        worker_of(len)
