"""What the doctor finds in the private files of `jobq serve`."""

import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from jobq.clock import utcnow
from jobq.config.loader import load_settings
from jobq.diagnostics.doctor.finding import Examination, Finding, Level
from jobq.diagnostics.doctor.serve import check_serve
from jobq.web.tokens import TokenStore


@pytest.fixture
def store(project: Path) -> TokenStore:
    opened = TokenStore(load_settings(project / "jobq.toml"))
    opened.open()
    opened.create("me", ["read"], life=timedelta(hours=1))
    return opened


@pytest.fixture
def examined(project: Path) -> Examination:
    return Examination(load_settings(project / "jobq.toml"), utcnow(), full=False)


def wrong(examined: Examination) -> Iterator[Finding]:
    return (each for each in check_serve(examined) if each.level is not Level.OK)


def test_without_a_token_there_is_nothing_to_find(examined: Examination) -> None:
    (found,) = check_serve(examined)
    assert (found.level, found.message) == (Level.OK, "is not there: no token was made")


@pytest.mark.usefixtures("store")
def test_what_it_makes_is_fine(examined: Examination) -> None:
    (found,) = check_serve(examined)
    assert (found.level, found.message) == (Level.OK, "key and tokens are private")


@pytest.mark.parametrize("name", ["key", "tokens", "."])
def test_what_others_can_read_is_made_private(
    store: TokenStore, examined: Examination, name: str
) -> None:
    path = store.folder / name
    path.chmod(0o755)
    (found,) = wrong(examined)
    assert (found.level, found.check) == (Level.PROBLEM, "serve")
    assert "rotate-key" in found.remedy
    assert found.fix is not None
    found.fix()
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert list(wrong(examined)) == []


def test_a_short_key_is_found(store: TokenStore, examined: Examination) -> None:
    (store.folder / "key").write_bytes(b"12345")
    (found,) = wrong(examined)
    assert (found.check, found.message) == ("serve key", "is too short: 5 bytes of at least 32")


def test_expired_tokens_are_deleted(store: TokenStore, examined: Examination) -> None:
    store.create("long", ["read"], life=timedelta(days=9))
    (found,) = wrong(replace(examined, now=utcnow() + timedelta(hours=2)))
    assert (found.level, found.message) == (Level.WARNING, "expired tokens: 1")
    assert found.fix is not None
    found.fix()
    assert [token.sub for token in store.all()] == ["long"]
