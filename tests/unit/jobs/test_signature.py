"""Signatures: which failures are of one kind, and that this does not change."""

import time
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobq.jobs.signature import (
    HASH_CHARS,
    MAX_SHAPE_CHARS,
    program_of,
    shape_of,
    signature_of,
    signed,
)
from jobq.models import AttemptKey, AttemptResult, Job, JobStatus, Outcome
from jobq.redaction import Redactor
from tests.support.paths import DATA
from tests.support.queues import NOON

FROZEN = (DATA / "failures.txt").read_text("utf-8").replace("\\e", "\x1b").strip().split("\n\n")
"""Blocks of failures of one kind: signature, job type and program; then the errors."""


def kinds() -> list[tuple[str, str, str, list[str]]]:
    found = []
    for block in FROZEN:
        head, *errors = block.split("\n")
        signature, job_type, *program = head.split()
        found.append((signature, job_type, "".join(program), errors))
    return found


def of(error: str | None, outcome: Outcome = Outcome.FAILED, frame: str | None = None) -> str:
    return signature_of("shell", outcome, "ffmpeg", error, frame)


@pytest.mark.parametrize(
    ("signature", "job_type", "program", "errors"), kinds(), ids=lambda value: str(value)[:60]
)
def test_failures_of_one_kind_have_one_signature_in_every_release(
    signature: str, job_type: str, program: str, errors: list[str]
) -> None:
    found = {signature_of(job_type, Outcome.FAILED, program, error, None) for error in errors}
    assert found == {signature}


def test_failures_of_two_kinds_have_two() -> None:
    signatures = [signature for signature, *_ in kinds()]
    assert len(signatures) == len(set(signatures))
    assert sum(len(errors) for *_, errors in kinds()) >= 150


def test_type_outcome_program_and_frame_count() -> None:
    plain = of("boom")
    assert len(plain) == HASH_CHARS
    assert of("boom", Outcome.TIMED_OUT) != plain
    assert of("boom", frame="fetch.py:Fetch.run") != plain
    assert signature_of("shell", Outcome.FAILED, "x265", "boom", None) != plain
    assert signature_of("other", Outcome.FAILED, "ffmpeg", "boom", None) != plain


def test_case_and_later_lines_do_not_count() -> None:
    assert of("\n  Boom \x1b[31mNow\x1b[0m\t!\nat line 7") == of("boom now !")
    assert of(None) == of("") == of("\n")


@pytest.mark.parametrize(
    ("error", "shape"),
    [
        ("HTTPError: 429 Too Many Requests for https://a.example/x?y=1", ("HTTPError: 429 Too Many "
         "Requests for a.example/#")),
        ("read /data/a b/c.MOV: bad, and ~/x.tar", "read /#.MOV: bad, and /#.tar"),
        ("can't open 'a b' on s3://bucket1/k", "can't open #q on bucket#/#"),
        ("h264, mp4 and python3.11 stay; job1234567 and v1.2", ("h264, mp4 and python3.11 stay; "
         "job# and v1.2")),
        ("I/O error and/or os.path on example.com", "I/O error and/or os.path on example.com"),
        ("853x480 at 12:30:01 on 3 Dec 2026, 1.5 MiB of 1,048,576", "# at #t on #t, # MiB of #"),
        ("ends with 75 (exit code 75), errno -2, signal 9", ("ends with # (exit code 75), errno -2, "
         "signal 9")),
    ],
)  # fmt: skip
def test_what_differs_between_jobs_is_marked(error: str, shape: str) -> None:
    assert shape_of(error) == shape


PIECES = st.sampled_from(
    [*"0123456789", *"abcdefxTZ_", *" .,:;/-#~'\"`@%()[]\x1b", "http://", "exit code ", "error ",
     "HTTP 404", "/a/b.mov", "0x1f", "3fa9c1d2", "2026-11-30", "12:30:01", "Nov 30", "\u2018",
     "\u2019", "#h", "#q", "#t", "/#", "é", "\n"]
)  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join))


@settings(max_examples=400)
@given(TEXTS)
def test_a_shape_is_its_own_shape(text: str) -> None:
    shape = shape_of(text)
    assert shape_of(shape) == shape
    assert len(shape) <= MAX_SHAPE_CHARS


@given(TEXTS, st.integers(0, 10**12), st.integers(0, 10**12))
def test_numbers_of_their_own_do_not_count(text: str, one: int, other: int) -> None:
    before = text[:100].replace("\n", " ").rstrip() + " took "
    assert of(f"{before}{one} ms") == of(f"{before}{other} ms")


@pytest.mark.parametrize("piece", ["/", "a/", "'", "a.", "1:", "[ ", "\x1b[", "error ", "0x", "a1"])
def test_long_errors_take_no_longer_than_their_length(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    began = time.process_time()
    shape_of(text)
    assert time.process_time() - began < 0.5


def test_the_program_of_a_command_is_named_without_what_may_be_secret() -> None:
    assert program_of({"argv": ["/usr/bin/ffmpeg", "-i", "x"]}) == "ffmpeg"
    assert program_of({"shell": "TOKEN=abc ./run.sh --all"}) == "run.sh"
    assert program_of({"argv": [], "other": 1}) == program_of({"argv": "text"}) == ""


def job(**args: object) -> Job:
    return Job(
        id=1, type="shell", status=JobStatus.RUNNING, queue="default", priority=5, args=args,
        tags={}, max_retries=3, retry_base=1.0, created_at=NOON,
    )  # fmt: skip


def result(status: JobStatus, error: str = "boom") -> AttemptResult:
    return AttemptResult(
        key=AttemptKey(1, 1, NOON), outcome=Outcome.FAILED, status=status, failures=1, crashes=0,
        run_at=NOON + timedelta(seconds=1), error=error,
    )  # fmt: skip


def test_only_failures_are_signed() -> None:
    for status in (JobStatus.FAILED, JobStatus.RETRYING):
        assert signed(result(status), job(argv=["ffmpeg"])).signature == of("boom")
    assert signed(result(JobStatus.COMPLETED), job(argv=["ffmpeg"])).signature is None


def test_no_secret_is_in_a_signature() -> None:
    def hashed(secret: str) -> str | None:
        failed = job(argv=["curl"], env={"API_TOKEN": secret})
        hide = Redactor().of(failed.args, failed.tags)
        return signed(result(JobStatus.FAILED, f"refused: {secret}"), failed, hide).signature

    assert hashed("correct-horse") == hashed("battery-staple")
