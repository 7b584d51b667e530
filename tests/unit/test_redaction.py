"""Secrets reach the job and the database, and nothing that is shown."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobq import ArgsError, JobQueue
from jobq.config.settings import Settings
from jobq.execution.hooks import announcement
from jobq.models import JobFilter
from jobq.redaction import SECRETS_TAG, Redactor, is_redacted
from jobq.secret_text import REDACTED
from jobq.transfer.exporter import Export
from tests.support.cli_runner import Cli
from tests.support.project import Project

SECRET = "hunter2-Zq9"
ANY = Redactor()


@pytest.fixture
def cli(queue: JobQueue, capsys: Any, project: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(project)
    return Cli(queue, capsys)


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("password", True), ("DB_PASSWORD", True), ("--api-key", True), ("Authorization", True),
        ("GITHUB_TOKEN", True), ("clientSecret", True), ("pass", True), ("smtp_pass", True), ("DB_PWD", True), ("PWD", False), ("OLDPWD", False),
        ("PATH", False), ("compass", False), ("author", False), ("key", False), ("", False),
    ],
)  # fmt: skip
def test_names_tell_what_is_secret(name: str, secret: bool) -> None:
    assert ANY.is_secret(name) is secret


@pytest.mark.parametrize(
    "words",
    [
        ["x", f"--password={SECRET}"],
        ["x", "--token", SECRET, "y"],
        ["x", f"API_TOKEN={SECRET} and more"],
        ["curl", "-H", f"Authorization: Bearer {SECRET}"],
        ["git", "clone", f"https://me:{SECRET}@host/x.git"],
        ["psql", f"postgres://u:p@{SECRET}@host/db"],
        ["sh", "-c", f"mysql --password {SECRET} --host h"],
        ["sh", "-c", f"PGPASSWORD='{SECRET}' psql"],
        ["curl", f"http://h/?a=1&access_token={SECRET}&b=2"],
        ["post", f'{{"api_key": "{SECRET}"}}'],
        ["sh", "-c", f"curl -H 'Authorization: token {SECRET}' h"],
        ["sh", "-c", f"curl --header=Authorization:Bearer\\ {SECRET} h"],
        ["sh", "-c", f"x --password two\\ {SECRET}; TOKEN=two\\ {SECRET} y"],
        ["sh", "-c", f'x --password \'two\'" {SECRET}"; TOKEN=two" {SECRET}" y'],
        ["sh", "-c", f'x TOKEN="a\\"{SECRET}" --password "a\\"{SECRET}"'],
        ["docker", "run", f"--env=API_TOKEN={SECRET}", "x"],
        ["curl", f'--header="Authorization: Bearer {SECRET}"'],
        ["ssh", "h", f"su -c 'mysql --password {SECRET}' me"],
        ["cut", f'{{"api_key": "two {SECRET}'],
    ],
)
def test_secrets_in_commands(words: list[str]) -> None:
    shown = ANY.of({"argv": words}, {}).value({"argv": words})
    assert SECRET not in json.dumps(shown)
    assert shown["argv"][0] == words[0]
    assert is_redacted(shown)
    assert not is_redacted(words)


def test_what_is_no_secret_stays() -> None:
    args = {
        "argv": ["ffmpeg", "-i", "a b.mkv", "--verbose", "--token", "--x=1", "http://h:80/a@b"],
        "env": {"PATH": "/bin:/usr/bin", "TOKEN": ""},
        "password": None,
        "use_token": True,
        "text": "a: b = c",
    }
    assert ANY.of(args, {}).value(args) == args


@given(st.recursive(st.none() | st.text(), lambda below: st.lists(below)
                    | st.dictionaries(st.text() | st.just("token"), below)))  # fmt: skip
@pytest.mark.slow
def test_to_redact_twice_changes_nothing(value: Any) -> None:
    hide = ANY.of({"": value}, {})
    assert hide.value(hide.value(value)) == hide.value(value)


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a=",
        "- --",
        "x://",
        "x://y:",
        "--a b ",
        '"',
        "token:",
        "token='",
        'token="\\',
        '--token "',
        "token: ",
        "x token: a ",
        "curl -u ",
        "curl a:",
        "docker login ",
        "Cookie: a=",
        "Cookie: ",
        "redis://u:a/",
    ],
)
def test_long_texts_take_linear_time(text: str) -> None:
    start = time.process_time()
    for prose in (True, False):
        ANY.of({}, {}).text(text * 100_000, prose=prose)
    assert time.process_time() - start < 5


def leaky(cli: Cli) -> int:
    """A job that says its secret wherever it can."""
    job = cli.queue.add(
        "shell",
        {"argv": ["x", SECRET, "--password", SECRET], "env": {"API_TOKEN": SECRET}},
        name=f"with {SECRET}", tags={"token": SECRET, "t": SECRET}, unique=SECRET,
        max_retries=5,
    )  # fmt: skip
    claim = cli.queue.claim(owner="me")
    assert claim is not None
    cli.queue.progress(claim, 1, 2, f"at {SECRET}")
    cli.queue.fail(claim, f"exit code 1: bad token {SECRET}")
    return job.id


VERBS = [
    ["list"], ["list", "--plain"], ["list", "--json"], ["list", "--jsonl"], ["show", "1"],
    ["show", "1", "--json"], ["explain", "1"], ["explain", "1", "--json"], ["stats", "--json"],
    ["wait", "1", "--timeout", "0", "--json"], ["export"], ["export", "--format", "csv"],
    ["add", "--json", "--", "x", f"--password={SECRET}"],
    ["add", "--shell", f"curl https://a:{SECRET}@h/"],
    ["schedule", "list"], ["schedule", "list", "--json"], ["schedule", "show", "s", "--json"],
    ["config", "show"], ["add", "secretive", f"pin={SECRET}", "count=x", f"password={SECRET}"],
]  # fmt: skip


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_no_verb_shows_a_secret(cli: Cli, project: Path, words: list[str]) -> None:
    (project / "jobq.toml").write_text(f'[hooks]\non_finish = ["tell", "--token", "{SECRET}"]')
    (project / "workers").mkdir()
    (project / "workers" / "secretive.py").write_text(SECRETIVE)
    leaky(cli)
    words_of_job = ["--", "x", f"--token={SECRET}"]
    cli("schedule", "add", "@daily", "--name", "s", "--tag", f"password={SECRET}", *words_of_job)
    shown = cli(*words)
    assert shown.out + shown.err
    assert SECRET not in shown.out + shown.err


def test_the_row_has_it_all(cli: Cli) -> None:
    job = cli.queue.get(leaky(cli))
    assert job.args["env"] == {"API_TOKEN": SECRET}
    assert job.error is not None
    assert SECRET in job.error


def test_what_hooks_and_notifications_are_given(cli: Cli) -> None:
    from jobq.serializers import job_document

    job = cli.queue.shown(cli.queue.get(leaky(cli)))
    document = job_document(job, Path("/log"))
    assert SECRET not in json.dumps(document)
    assert SECRET not in "".join(announcement(document))


def test_patterns_are_a_setting(tmp_path: Path) -> None:
    (tmp_path / "jobq.toml").write_text('[redact]\npatterns = ["*pin*"]')
    with JobQueue.open(tmp_path / "jobq.toml") as queue:
        job = queue.add("shell", {"argv": ["x"], "env": {"PIN": SECRET, "TOKEN": "shown"}})
        assert queue.shown(job).args["env"] == {"PIN": REDACTED, "TOKEN": "shown"}


def test_an_export_can_be_imported_only_with_its_secrets(cli: Cli, project: Path) -> None:
    cli.queue.add("shell", {"argv": ["x", f"--token={SECRET}"]})
    out = cli("export", "-o", "rows.jsonl")
    assert "Secrets of 1 job were left out" in out.err
    refused = cli("import", "rows.jsonl")
    assert refused.code == 2
    assert "--with-secrets" in refused.err
    cli("export", "--with-secrets", "-o", "rows.jsonl")
    assert SECRET in (project / "rows.jsonl").read_text()
    with pytest.raises(ArgsError, match="a secret was"):
        cli.queue.add("shell", {"argv": ["x", REDACTED]})
    assert Export(cli.queue, JobFilter()).redacted == 0


# -- pydantic's secrets --------------------------------------------------------------------------

SECRETIVE = """
from pydantic import BaseModel, SecretBytes, SecretStr
from jobq import JobWorker

class Account(BaseModel):
    user: str
    code: SecretStr

class Secretive(JobWorker):
    job_type = "secretive"
    class Args(BaseModel):
        pin: SecretStr
        more: list[SecretStr] = []
        raw: SecretBytes | None = None
        account: Account | None = None
        count: int = 0
    def run(self, args, job):
        job.log.info("the pin is %s", args.pin.get_secret_value())
        job.progress(1, 1, args.pin.get_secret_value())
        print(args.pin.get_secret_value(), args.account.code.get_secret_value(), args.raw)
        return {"got": [each.get_secret_value() for each in args.more], "user": args.account.user}
"""


@pytest.fixture
def running(project: Path) -> Iterator[Project]:
    opened = Project(project)
    yield opened
    opened.close()


@pytest.mark.slow
def test_a_secret_str_reaches_its_worker_and_is_not_shown(running: Project) -> None:
    running.worker("secretive", SECRETIVE)
    args = {
        "pin": SECRET, "more": ["second-secret"], "raw": "bytes-secret",
        "account": {"user": "me", "code": "code-secret"},
    }  # fmt: skip
    job = running.queue.add("secretive", args)
    assert job.args == args
    assert job.tags == {SECRETS_TAG: "code,more,pin,raw"}
    said = running.drain()
    assert running.output(job) == f"{SECRET} code-secret b'**********'\n"
    done = running.queue.get(job.id)
    assert done.result == {"got": ["second-secret"], "user": "me"}
    shown = [
        said,
        running.output(job, "events.jsonl"),
        *(running.jobq(*words).stdout for words in (["show", "1"], ["list", "--json"])),
    ]
    assert '"event": "log"' in shown[1]
    assert '"event": "progress"' in shown[1]
    for text in shown:
        assert "-secret" not in text
        assert SECRET not in text
    assert SECRET in running.output(job, "job.log")  # what it logs is its own


def test_settings_have_the_default_patterns() -> None:
    settings = Settings(path=None, database=Path("x"), log_dir=Path("y"), concurrency=1)
    assert settings.redactor == Redactor()
