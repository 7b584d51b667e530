"""A server for each module, on every backend; and the application in this process."""

from collections.abc import Callable, Iterator
from hashlib import sha1
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from jobq import JobQueue
from jobq.web.app import create_app
from tests.support.redis_server import SharedServer
from tests.support.web_server import ALL_ROLES, SETTINGS, WebServer

LOCAL_URL = "http://127.0.0.1:5627"


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def backend_setting(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The line of jobq.toml that names a store of this module's own."""
    if request.param == "sqlite":
        return ""
    shared: SharedServer = request.getfixturevalue("shared_redis")
    name = sha1(str(tmp_path_factory.mktemp("store")).encode()).hexdigest()
    return f'backend = "{shared.url}?name={name}"\n'


@pytest.fixture(scope="module")
def server(backend_setting: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    """A real server, shared by the tests of a module."""
    opened = WebServer(tmp_path_factory.mktemp("served"), top=backend_setting)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(server: WebServer) -> httpx2.Client:
    """A client of that server with every role."""
    return server.client(server.token(), timeout=60)


class App:
    """The application in this process, without a socket: for tests of handlers."""

    def __init__(self, folder: Path, settings: str = SETTINGS) -> None:
        (folder / "jobq.toml").write_text(settings.replace("port = 0\n", ""))
        self.queue = JobQueue.open(folder / "jobq.toml")
        self.app = create_app(self.queue, log=self._note)
        self.server = self.app.state.server
        self.lines: list[str] = []
        self._tokens: dict[tuple[str, ...], str] = {}
        self.client = TestClient(
            self.app, base_url=LOCAL_URL, raise_server_exceptions=False, follow_redirects=False
        )

    def _note(self, line: str) -> None:
        self.lines.append(line)

    def token(self, *roles: str, **options: Any) -> str:
        """Return a new token with these roles; without any, with all."""
        from datetime import timedelta

        name = options.pop("name", f"t{len(self.server.tokens.all())}")
        options = {"life": timedelta(hours=1), **options}
        text: str = self.server.tokens.create(name, roles or ALL_ROLES, **options)[0]
        return text

    def ping(self) -> None:
        """Ping all event streams, as the server does every 15 s."""
        assert self.client.portal is not None
        self.client.portal.call(self.server.streams.ping)

    def call(self, method: str, path: str, *roles: str, **options: Any) -> httpx2.Response:
        """Send a request, with a token of these roles: the same one each time."""
        if roles not in self._tokens:
            self._tokens[roles] = self.token(*roles)
        headers = {"Authorization": f"Bearer {self._tokens[roles]}"} | options.pop("headers", {})
        answer: httpx2.Response = self.client.request(method, path, headers=headers, **options)
        return answer


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[Callable[..., App]]:
    """Return a function that makes an application with settings of its own."""
    made: list[App] = []

    def make(settings: str = SETTINGS) -> App:
        folder = tmp_path / f"app{len(made)}"
        folder.mkdir()
        made.append(App(folder, settings))
        made[-1].client.__enter__()
        return made[-1]

    yield make
    for app in made:
        app.client.__exit__(None, None, None)
        app.queue.close()


@pytest.fixture(scope="module")
def api(backend_setting: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The application on every backend, shared by the tests of a module."""
    app = App(tmp_path_factory.mktemp("api"), backend_setting + SETTINGS)
    with app.client:
        yield app
    app.queue.close()


@pytest.fixture
def app(make_app: Callable[..., App]) -> App:
    """The application with the settings of `tests.support.web_server`."""
    return make_app()
