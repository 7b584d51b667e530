import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jobq.config.environment import job_environment
from jobq.config.loader import find_file, load_settings
from jobq.config.settings import Settings
from jobq.errors import ConfigError
from jobq.models import Queue
from jobq.units import Rate


@pytest.fixture
def file(project: Path) -> Path:
    return project / "jobq.toml"


def read(file: Path, text: str, **environ: str) -> Settings:
    file.write_text(text)
    return load_settings(file, environ=environ)


# -- what is read ------------------------------------------------------------------------------


def test_an_empty_file_gives_the_defaults_beside_it(file: Path) -> None:
    settings = load_settings(file, environ={})
    assert settings.path == file
    assert settings.database == file.parent / ".jobq" / "jobq.db"
    assert settings.log_dir == file.parent / "logs"
    assert settings.worker_paths == (file.parent / "workers",)
    assert (settings.concurrency, settings.backend) == (os.cpu_count(), "sqlite")
    assert (settings.max_retries, settings.retry_base, settings.lease) == (3, 10.0, 30.0)
    assert settings.queues == {"default": Queue(name="default")}


EVERY_KEY = """\
database = "db/jobs.db"
log_dir = "/var/log/jobq"
concurrency = 7
backend = "sqlite"
[workers]
paths = ["mine", "/shared/workers"]
[retry]
max_retries = 0
base = "1m"
jitter = 0
max_crashes = 1
[timeouts]
low = "none"
normal = 10
high = "2h"
critical = 0.5
[timeouts.types]
tile = "90s"
[retention]
older_than = "7d"
keep_last = 100
[lease]
seconds = "1m"
grace = 0
[env]
capture = ["PATH", "LC_*"]
[queues.ffmpeg]
description = "two at once"
max_concurrent = 2
priority = "high"
rate = "10/min"
timeout = "1h"
max_retries = 5
[queues."a.b"]
"""


def test_every_key_is_read(file: Path) -> None:
    settings = read(file, EVERY_KEY)
    folder = file.parent
    assert settings.database == folder / "db" / "jobs.db"
    assert settings.log_dir == Path("/var/log/jobq")
    assert settings.concurrency == 7
    assert settings.worker_paths == (folder / "mine", Path("/shared/workers"))
    assert (settings.max_retries, settings.retry_base) == (0, 60.0)
    assert (settings.retry.jitter, settings.retry.max_crashes) == (0.0, 1)
    assert [settings.timeouts.of_priority(p) for p in (0, 5, 8, 9)] == [0.0, 10.0, 7200.0, 0.5]
    assert settings.timeouts.types == {"tile": 90.0}
    assert (settings.retention.older_than, settings.retention.keep_last) == (604800.0, 100)
    assert (settings.lease, settings.grace) == (60.0, 0.0)
    assert settings.env_capture == ("PATH", "LC_*")
    assert settings.queues == {
        "ffmpeg": Queue(
            name="ffmpeg",
            description="two at once",
            max_concurrent=2,
            priority=7,
            rate=Rate(10, 60.0),
            timeout=3600.0,
            max_retries=5,
        ),
        "a.b": Queue(name="a.b"),
        "default": Queue(name="default"),
    }


def test_a_shell_job_keeps_the_variables_that_are_listed(file: Path) -> None:
    settings = read(file, '[env]\ncapture = ["PATH", "LC_*"]\n')
    environ = {"PATH": "/bin", "LC_ALL": "C", "SECRET": "x", "LC": "y", "MYPATH": "z"}
    assert settings.captured(environ) == {"PATH": "/bin", "LC_ALL": "C"}


def test_secrets_are_not_kept_by_default(file: Path) -> None:
    kept = load_settings(file, environ={}).captured({"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "x"})
    assert kept == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("text", "size"), [('"10MB"', 10 << 20), ("100000", 100_000), ("0", 0), ('"off"', 0)]
)
def test_a_size_or_none(file: Path, text: str, size: int) -> None:
    settings = read(file, f"[logs]\nmax_bytes = {text}\nmin_free = {text}\n")
    assert (settings.log_max_bytes, settings.min_free) == (size, size)


# -- what is wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where", "key", "what"),
    [
        ("\nconcurrency = 0", 2, "concurrency", "at least 1"),
        ("concurrency = true", 1, "concurrency", "whole number"),
        ("concurrency = 99999999999999999999", 1, "concurrency", "at most"),
        ("database = ''", 1, "database", "expected text"),
        ("backend = 'redis'", 1, "backend", '"sqlite"'),
        ("colour = 1", 1, "colour", "no such key"),
        ("[retry]\nmax = 1", 2, "retry.max", "no such key"),
        ("[retry]\n\nmax_retries = -1", 3, "retry.max_retries", "at least 0"),
        ("retry.max_retries = -1", 1, "retry.max_retries", "at least 0"),
        ("retry = { max_retries = -1 }", 1, "retry.max_retries", "at least 0"),
        ("[retry]\nbase = 'soon'", 2, "retry.base", "duration"),
        ("[retry]\njitter = 1.5", 2, "retry.jitter", "from 0 to 1"),
        ("[retry]\njitter = nan", 2, "retry.jitter", "from 0 to 1"),
        ("[retry]\nmax_crashes = 0", 2, "retry.max_crashes", "at least 1"),
        ("[logs]\nmax_bytes = 1000", 2, "logs.max_bytes", "at least 65,536 bytes"),
        ("[logs]\nmax_bytes = 'much'", 2, "logs.max_bytes", '"100MB"'),
        ("[logs]\nmin_free = true", 2, "logs.min_free", "a size"),
        ("[lease]\nseconds = 0", 2, "lease.seconds", "above 0"),
        ("[timeouts]\nlow = -5", 2, "timeouts.low", "duration"),
        ("[timeouts.types]\n'tile' = 'x'", 2, "timeouts.types.tile", "duration"),
        ("[timeouts]\ntypes = 5", 2, "timeouts.types", "table"),
        ("[workers]\npaths = 'workers'", 2, "workers.paths", "list of strings"),
        ("retention = 5", 1, "retention", "table"),
        ("[queues.ffmpeg]\npriority = 11", 2, "queues.ffmpeg.priority", "0 to 9"),
        ("[queues.ffmpeg]\nrate = 'often'", 2, "queues.ffmpeg.rate", "rate"),
        ("[queues.ffmpeg]\nrate = 5", 2, "queues.ffmpeg.rate", "text"),
        ("# x\n[queues.'a b']", 2, "queues.a b", "letters, digits"),
        ('[queues."a.b"]\nmax_concurrent = 0', 2, "queues.a.b.max_concurrent", "at least 1"),
        ("[queues]\nffmpeg = 5", 2, "queues.ffmpeg", "table"),
        ("queues = 5", 1, "queues", "tables"),
        ("[retry]\nbase = 1\n[timeouts]\nbase = 1", 4, "timeouts.base", "no such key"),
    ],
)  # fmt: skip
def test_an_error_names_file_line_key_and_what_was_expected(
    file: Path, text: str, where: int, key: str, what: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read(file, text)
    message = str(caught.value)
    assert message.startswith(f"{file}:{where}: {key}: ")
    assert what in message
    assert "\n" not in message


def test_a_file_that_is_no_toml_says_where(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"line 2") as caught:
        read(file, "concurrency = 1\ndatabase = \nlog_dir = 'x'")
    assert str(file) in str(caught.value)


def test_a_file_that_is_not_utf8_says_so(file: Path) -> None:
    file.write_bytes(b"database = '\xe9'")
    with pytest.raises(ConfigError, match="UTF-8") as caught:
        load_settings(file, environ={})
    assert str(file) in str(caught.value)


# -- variables ---------------------------------------------------------------------------------


def test_variables_override_single_keys(file: Path, tmp_path: Path) -> None:
    settings = read(
        file,
        "concurrency = 1\ndatabase = 'a.db'\n[retry]\nmax_retries = 9",
        JOBQ_CONCURRENCY="5",
        JOBQ_DATABASE=str(tmp_path / "b.db"),
        JOBQ_LOG_DIR=str(tmp_path / "l"),
        JOBQ_BACKEND="sqlite",
    )
    assert (settings.concurrency, settings.max_retries) == (5, 9)
    assert (settings.database, settings.log_dir) == (tmp_path / "b.db", tmp_path / "l")


def test_an_empty_variable_says_nothing(file: Path) -> None:
    assert read(file, "concurrency = 3", JOBQ_CONCURRENCY="").concurrency == 3


@pytest.mark.parametrize(
    ("variable", "value"), [("JOBQ_CONCURRENCY", "many"), ("JOBQ_BACKEND", "redis")]
)
def test_an_error_in_a_variable_names_it(file: Path, variable: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"^\${variable}: .*'{value}'"):
        load_settings(file, environ={variable: value})


def test_a_path_in_a_variable_is_meant_from_where_the_command_is_typed(
    file: Path, tmp_path: Path
) -> None:
    settings = load_settings(file, environ={"JOBQ_DATABASE": "x/jobs.db"}, cwd=tmp_path)
    assert settings.database == tmp_path / "x" / "jobs.db"


def test_a_tilde_is_the_home_directory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    settings = read(file, "database = '~/jobs.db'", JOBQ_LOG_DIR="~/logs")
    assert settings.database == Path("/home/me/jobs.db")
    assert settings.log_dir == Path("/home/me/logs")


def test_inside_a_job_the_log_directory_is_that_of_all_jobs(file: Path) -> None:
    """A job's own directory is in $JOBQ_LOG_DIR while it runs."""
    inside = {"JOBQ_JOB_ID": "7", "JOBQ_LOG_DIR": "/var/log/jobq/jobs/7"}
    assert load_settings(file, environ=inside).log_dir == Path("/var/log/jobq")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another project's jobq.toml."""
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "jobq.toml").write_text("")
    return folder / "jobq.toml"


@pytest.fixture
def inside(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a job, whose supervisor was told by variables where its queue is."""
    file.write_text("")
    monkeypatch.setenv("JOBQ_DATABASE", str(tmp_path / "own.db"))
    monkeypatch.setenv("JOBQ_BACKEND", "redis://own:6379/0")
    settings = load_settings(file)
    log_dir = f"{settings.log_dir}/jobs/7"
    return {**job_environment(settings), "JOBQ_JOB_ID": "7", "JOBQ_LOG_DIR": log_dir}


def test_inside_a_job_its_own_queue_is_meant(
    inside: dict[str, str], file: Path, other: Path, tmp_path: Path
) -> None:
    own = load_settings(file)
    for settings in (
        load_settings(environ=inside, cwd=other.parent),
        load_settings(file, environ=inside, cwd=tmp_path),
        load_settings("jobq.toml", environ=inside, cwd=file.parent),
    ):
        assert settings == own
        assert settings.database == tmp_path / "own.db"
        assert settings.backend == "redis://own:6379/0"


def test_inside_a_job_another_file_that_is_named_counts(
    inside: dict[str, str], other: Path, tmp_path: Path
) -> None:
    alone = load_settings(other, environ={})
    assert alone.backend == "sqlite"
    assert load_settings(other, environ=inside, cwd=tmp_path) == alone
    assert load_settings("other/jobq.toml", environ=inside, cwd=tmp_path) == alone
    by_variable = {**inside, "JOBQ_CONFIG": str(other)}
    assert load_settings(environ=by_variable, cwd=tmp_path) == alone
    emptied = {**inside, "JOBQ_CONFIG": ""}
    assert load_settings(environ=emptied, cwd=other.parent) == alone


def test_inside_a_job_variables_that_were_set_there_count(
    inside: dict[str, str], other: Path, tmp_path: Path
) -> None:
    changed = {
        **inside,
        "JOBQ_DATABASE": str(tmp_path / "set.db"),
        "JOBQ_LOG_DIR": str(tmp_path / "set"),
        "JOBQ_BACKEND": "sqlite",
    }
    for settings in (load_settings(environ=changed), load_settings(other, environ=changed)):
        assert settings.database == tmp_path / "set.db"
        assert settings.log_dir == tmp_path / "set"
        assert settings.backend == "sqlite"


def test_a_job_of_a_queue_without_a_file_can_name_one(
    other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = load_settings(environ={}, cwd=tmp_path)
    inside = job_environment(own)
    assert load_settings(environ=inside, cwd=other.parent).database == own.database
    alone = load_settings(other, environ={})
    assert load_settings(other, environ=inside) == alone
    # A supervisor that runs inside that job hands on where its own jobs are.
    for name, value in inside.items():
        monkeypatch.setenv(name, value)
    assert load_settings(environ=job_environment(alone), cwd=tmp_path) == alone


# -- the user and the host ---------------------------------------------------------------------


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without $HOME, and without an entry in the list of users."""
    for name in [name for name in os.environ if name == "HOME" or name.startswith("XDG_")]:
        monkeypatch.delenv(name)

    def missing(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", missing)


@pytest.mark.usefixtures("homeless")
def test_without_a_home_a_project_is_enough(project: Path, tmp_path: Path) -> None:
    assert load_settings(environ={}, cwd=project).database == project / ".jobq/jobq.db"
    (tmp_path / "jobq").mkdir()
    named = tmp_path / "jobq" / "jobq.toml"
    named.write_text("")
    assert load_settings(named, environ={}).log_dir == tmp_path / "jobq/logs"
    both = {"JOBQ_DATABASE": str(tmp_path / "a.db"), "JOBQ_LOG_DIR": str(tmp_path / "l")}
    assert load_settings(environ=both, cwd=tmp_path).database == tmp_path / "a.db"


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize("given", [{}, {"JOBQ_DATABASE": "/a.db"}, {"JOBQ_LOG_DIR": "/logs"}])
def test_without_a_home_and_a_project_the_remedy_is_named(
    tmp_path: Path, given: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match=r"no home directory .*: set \$HOME, or .*`jobq init`"):
        load_settings(environ=given, cwd=tmp_path)


def test_concurrency_is_the_number_of_cpus_that_may_be_used(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {3}, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert read(file, "").concurrency == 1
    monkeypatch.delattr("os.sched_getaffinity")  # as on macOS
    assert read(file, "").concurrency == 8
    assert read(file, "concurrency = 5").concurrency == 5


def test_a_byte_order_mark_is_no_part_of_the_file(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + b"concurrency = 3\n")
    assert load_settings(file, environ={}).concurrency == 3
    file.write_bytes(b"\xef\xbb\xbf" + b"concurrency = 0\n")
    with pytest.raises(ConfigError, match=r"jobq\.toml:1: concurrency: expected"):
        load_settings(file, environ={})


def test_a_key_in_the_wrong_place_is_told_where_it_belongs(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"jobq\.toml:1: jitter: .* belongs below \[retry\]"):
        read(file, "jitter = 0.2")
    with pytest.raises(ConfigError, match=r"below \[retry\] or \[queues\.NAME\]"):
        read(file, "max_retries = 2")


def test_a_table_that_is_there_twice_is_to_be_merged(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"twice.*: merge it with the table of that name above"):
        read(file, "[hooks]\n[hooks]\non_finish = []")


# -- which file --------------------------------------------------------------------------------


def test_the_file_is_searched_for_in_order(project: Path, tmp_path: Path) -> None:
    nearest = project / "jobq.toml"
    named, by_variable = project / "named.toml", tmp_path / "variable.toml"
    users = tmp_path / "home" / "config" / "jobq" / "jobq.toml"
    users.parent.mkdir(parents=True)
    for file in (named, by_variable, users):
        file.write_text("")
    below = project / "a" / "b"
    below.mkdir(parents=True)
    environ = {"JOBQ_CONFIG": str(by_variable)}
    assert find_file(named, environ, below) == named
    assert find_file(None, environ, below) == by_variable
    assert find_file(None, {}, below) == nearest
    assert find_file(None, {}, tmp_path) == users
    users.unlink()
    assert find_file(None, {}, tmp_path) is None


def test_a_file_that_is_named_must_be_there(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.toml: no such file \(--config\)"):
        load_settings("no.toml", environ={}, cwd=project)
    with pytest.raises(ConfigError, match=r"\$JOBQ_CONFIG"):
        load_settings(environ={"JOBQ_CONFIG": "no.toml"}, cwd=project)


def test_a_named_file_is_meant_from_the_working_directory(project: Path) -> None:
    (project / "sub").mkdir()
    (project / "sub" / "other.toml").write_text("database = 'x.db'")
    assert (
        load_settings("sub/other.toml", environ={}, cwd=project).database
        == project / "sub" / "x.db"
    )


def test_without_any_file_state_is_kept_in_the_users_state_directory(tmp_path: Path) -> None:
    settings = load_settings(environ={}, cwd=tmp_path)
    state = tmp_path / "home" / "state" / "jobq"
    assert (settings.path, settings.worker_paths) == (None, ())
    assert (settings.database, settings.log_dir) == (state / "jobq.db", state / "logs")


NO_FILE: dict[str, Callable[[Path], object]] = {
    "not a regular file": Path.mkdir,
    "not a regular file: ": os.mkfifo,
    "a symbolic link to nowhere": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("complaint", NO_FILE)
@pytest.mark.parametrize("named", [False, True])
def test_what_is_no_file_is_not_passed_over(project: Path, complaint: str, named: bool) -> None:
    """Other settings would hold, and jobs would go to another database."""
    (project / "sub").mkdir()
    path = project / "sub" / "jobq.toml"
    NO_FILE[complaint](path)
    with pytest.raises(ConfigError, match=complaint) as caught:
        load_settings(path if named else None, environ={}, cwd=project / "sub")
    assert str(path) in str(caught.value)


def test_a_home_that_is_not_there_is_named(file: Path) -> None:
    file.write_text('database = "~no-such-user/jobq.db"')
    with pytest.raises(
        ConfigError, match=r"jobq\.toml:1: database: expected a path in an existing home"
    ):
        load_settings(file)
    file.write_text("")
    with pytest.raises(ConfigError, match=r"\$JOBQ_LOG_DIR: expected a path in an existing home"):
        load_settings(file, environ={"JOBQ_LOG_DIR": "~no-such-user/logs"})
    with pytest.raises(ConfigError, match="--config: expected a path in an existing home"):
        load_settings("~no-such-user/jobq.toml")


def test_a_working_directory_that_is_gone_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigError, match="working directory was deleted"):
        load_settings()


def test_with_the_user_s_own_file_state_is_not_kept_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    own = home / "config" / "jobq" / "jobq.toml"
    own.parent.mkdir(parents=True)
    own.write_text("concurrency = 3")
    for path in (None, own):  # found, and named
        settings = load_settings(path, cwd=tmp_path)
        assert settings.concurrency == 3
        assert settings.database == home / "state" / "jobq" / "jobq.db"
        assert settings.log_dir == home / "state" / "jobq" / "logs"
    own.write_text('database = "here.db"')
    assert load_settings(cwd=tmp_path).database == own.parent / "here.db"


def test_a_pattern_captures_only_what_is_a_variable(file: Path) -> None:
    settings = read(file, '[env]\ncapture = ["*"]')
    environ = {"PATH": "/bin", "BASH_FUNC_x%%": "() { :; }", "A.B": "1", "LC_ALL": "C"}
    assert settings.captured(environ) == {"PATH": "/bin", "LC_ALL": "C"}
