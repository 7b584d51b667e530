"""docs/openapi.json is what the server says, and what it promises stays."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.web.conftest import App
from tests.web.test_roles import expected
from tools import openapi


@pytest.fixture(scope="module")
def now() -> dict[str, Any]:
    return openapi.document()


def test_the_file_is_what_the_server_says(now: dict[str, Any]) -> None:
    """If it differs: `make openapi`."""
    assert json.loads(openapi.FILE.read_text("utf-8")) == now


def test_it_has_every_route_but_the_page(now: dict[str, Any]) -> None:
    described = {f"{m.upper()} {path}" for path, each in now["paths"].items() for m in each}
    assert described == set(expected()) - {"GET /"}


def test_it_is_served(app: App, now: dict[str, Any]) -> None:
    assert app.call("GET", "/api/v1/openapi.json", "read").json() == now


def test_what_was_promised_may_not_go(
    now: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "openapi.json"
    monkeypatch.setattr(openapi, "FILE", file)
    monkeypatch.setattr(openapi, "document", lambda: now)
    more = json.loads(json.dumps(now))
    more["components"]["schemas"]["Job"]["properties"]["colour"] = {}
    more["paths"]["/livez"]["get"]["responses"]["299"] = {}
    more["paths"]["/gone"] = {"get": {"responses": {}}}
    file.write_text(openapi.as_text(more))
    assert openapi.main() == 1
    said = capsys.readouterr().err
    for each in ("Job has colour", "GET /livez answers 299", "GET /gone"):
        assert each in said
    assert json.loads(file.read_text()) == more
    file.write_text(openapi.as_text(now))
    assert openapi.main() == 0
