import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from jobq.cli.main import run
from jobq.config.settings import Serve
from jobq.errors import ConfigError
from jobq.web.gate import origins_of
from jobq.web.server import listen_unix, require_safe, url_of
from tests.support.web_server import SETTINGS, WebServer


def test_it_stops_within_5_seconds_and_exits_with_0(tmp_path: Path) -> None:
    server = WebServer(tmp_path / "own")
    try:
        assert server.client().get("/livez").status_code == 200
        assert list((server.tokens.folder / "servers").iterdir())
        assert server.stop() == 0
        assert not list((server.tokens.folder / "servers").iterdir())
    finally:
        server.close()


def test_it_listens_on_a_unix_socket_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "run" / "jobq.sock"
    server = WebServer(tmp_path / "own", "--socket", str(path))
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(path))) as client:
            assert client.get("http://localhost/livez").text == "ok\n"
        server.stop(signal.SIGINT)
        assert not path.exists()
    finally:
        server.close()


def test_a_socket_that_answers_is_not_taken(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    with listen_unix(folder / "sock") as first:
        first.listen()
        with pytest.raises(Exception, match="choose another --socket"):
            listen_unix(folder / "sock")
    with listen_unix(folder / "sock"):  # what a server that was killed has left
        pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "jobs.example"])
def test_an_open_address_needs_tls(host: str) -> None:
    with pytest.raises(ConfigError, match="others could read tokens"):
        require_safe(Serve(host=host))
    with pytest.raises(ConfigError):
        require_safe(Serve(host=host, public_url="http://jobs.example"))
    require_safe(Serve(host=host, public_url="https://jobs.example"))
    require_safe(Serve(host=host, tls_cert=Path("c"), tls_key=Path("k")))


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(ConfigError, match="give both"):
        require_safe(Serve(tls_cert=Path("c")))
    for host in ("127.0.0.1", "::1", "localhost", "127.0.0.2"):
        require_safe(Serve(host=host))


def test_the_url_is_what_clients_use() -> None:
    assert url_of(Serve(), 5627) == "http://127.0.0.1:5627"
    assert url_of(Serve(host="::1"), 80) == "http://[::1]:80"
    assert url_of(Serve(public_url="https://jobs.example"), 1) == "https://jobs.example"
    assert origins_of(Serve(host="::1"), 80).knows_host("[::1]")


def test_it_does_not_start_on_an_open_address_or_with_a_bad_key(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    assert run(["serve", "--host", "0.0.0.0"]) == 2
    assert "tls_cert" in capsys.readouterr().err
    assert run(["token", "create", "me", "--role", "read", "-q"]) == 0
    (project / ".jobq" / "serve" / "key").chmod(0o644)
    assert run(["serve"]) == 2
    assert "chmod 600" in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run(["serve", "--port", str(port)]) == 2
    assert f"127.0.0.1:{port}: Address already in use: choose another" in capsys.readouterr().err


def test_web_gives_a_url_that_logs_in(tmp_path: Path) -> None:
    server = WebServer(tmp_path / "own")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "jobq", "web", "--print", "--read-only"],
            cwd=server.folder,
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        url, _, code = done.stdout.strip().partition("/#code=")
        assert url == server.url
        answer = server.client().post("/api/v1/session", json={"code": code})
        assert answer.json()["roles"] == ["read"]
    finally:
        server.close()


def test_web_starts_a_server_which_answers_a_browser_that_waits(tmp_path: Path) -> None:
    (tmp_path / "jobq.toml").write_text(SETTINGS)
    browser = tmp_path / "browser"
    get = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=9).read()[:5])"
    browser.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{get}' \"$1\"\n")
    browser.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-m", "jobq", "web"],
        cwd=tmp_path,
        env={**os.environ, "BROWSER": f"{browser} %s"},
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.terminate()
        assert process.wait(10) == 0
    assert any(line.startswith("GET / 200") for line in lines)
    assert "b'jobq:'\n" in lines


def test_a_read_only_server_refuses_changes(tmp_path: Path) -> None:
    server = WebServer(tmp_path / "own", "--read-only")
    try:
        client = server.client(server.token())
        job = {"type": "shell", "args": {"argv": ["true"]}}
        answer = client.post("/api/v1/jobs", json=job)
        assert (answer.status_code, answer.json()["code"]) == (403, "read_only")
        assert client.get("/api/v1/server").json()["read_only"] is True
        assert client.delete("/api/v1/session").status_code == 204
    finally:
        server.close()


def test_without_the_extra_one_line_says_how_to_install_it(project: Path) -> None:
    script = (
        "import sys; sys.modules['jwt'] = None; from jobq.cli.main import run; "
        "print([run([*words.split()]) for words in ('serve', 'web', 'token list')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=project, capture_output=True, encoding="utf-8",
        check=True,
    )  # fmt: skip
    assert done.stdout == "[1, 1, 1]\n"
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    (line,) = set(lines)
    assert line.startswith("jobq: jwt is not installed: install jobq again, with its extra web: in")
    assert line.endswith("`uv tool install '.[web]'`, or in its venv `pip install '.[web]'`")


def test_tokens_on_the_command_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    assert run(["token", "create", "me", "--role", "operate,submit", "--expires", "30d"]) == 0
    out, err = capsys.readouterr()
    assert out.count(".") == 2
    assert "Token me (operate, submit) expires" in err
    assert run(["token", "list"]) == 0
    assert "me    operate, submit  in " in capsys.readouterr().out
    assert run(["token", "show", "me"]) == 0
    assert "operate, submit" in capsys.readouterr().out
    assert run(["token", "revoke", "me"]) == 0
    assert run(["token", "show", "me"]) == 3
    assert run(["token", "create", "me", "--role", "root"]) == 2
    assert run(["token", "rotate-key"]) == 0
    assert "0 tokens ended" in capsys.readouterr().out
