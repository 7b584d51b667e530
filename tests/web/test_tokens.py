import base64
import json
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest

from jobq.clock import utcnow
from jobq.config.loader import load_settings
from jobq.errors import ConfigError, NotFound, UsageError, WrongState
from jobq.web.tokens import InvalidToken, Role, TokenStore

HOUR = timedelta(hours=1)


@pytest.fixture
def store(project: Path) -> TokenStore:
    opened = TokenStore(load_settings(project / "jobq.toml"))
    opened.open()
    return opened


def _key(store: TokenStore) -> bytes:
    return (store.folder / "key").read_bytes()


def _forged(store: TokenStore, headers: dict[str, Any] | None = None, **claims: Any) -> str:
    """Return a token that differs from a good one in these claims."""
    text, _ = store.create(f"t{len(store.all())}", ["read"], life=HOUR)
    good = jwt.decode(text, options={"verify_signature": False})
    wanted = {k: v for k, v in {**good, **claims}.items() if v is not None}
    return jwt.encode(wanted, _key(store), "HS256", {"kid": store.kid, **(headers or {})})


def test_a_token_is_what_was_created(store: TokenStore) -> None:
    text, token = store.create("me", ["read", "worker"], life=HOUR, queues=["gpu"])
    assert store.verify(text) == token
    assert token.has(Role.READ)
    assert not token.has(Role.SUBMIT)
    assert [each.sub for each in store.all()] == ["me"]


def test_files_are_private(store: TokenStore) -> None:
    store.create("me", ["read"], life=HOUR)
    store.create_code([Role.READ])
    for path in [store.folder, *store.folder.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_deleting_the_file_revokes(store: TokenStore) -> None:
    text, token = store.create("me", ["read"], life=HOUR)
    store.revoke(token)
    with pytest.raises(InvalidToken, match="revoked"):
        store.verify(text)


def test_a_changed_file_counts_for_nothing(store: TokenStore) -> None:
    text, token = store.create("me", ["read"], life=HOUR)
    file = store.folder / "tokens" / f"{token.jti}.json"
    file.write_text(json.dumps({**token.document(), "roles": ["operate"]}))
    with pytest.raises(InvalidToken, match="agree"):
        store.verify(text)


def _bad_tokens(store: TokenStore) -> Iterator[str]:
    now = int(utcnow().timestamp())
    text, _ = store.create("good", ["read"], life=HOUR)
    head, body, signature = text.split(".")
    none = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": store.kid}).encode()).decode()
    yield f"{none.rstrip('=')}.{body}."
    yield f"{head}.{body}."
    yield f"{head}.{body}.{signature[:-2]}xx"
    yield jwt.encode({"sub": "me"}, b"x" * 32, "HS256", {"kid": store.kid})
    yield _forged(store, {"kid": "other"})
    yield _forged(store, {"crit": ["x"], "x": 1})
    yield _forged(store, aud="jobq:other")
    yield _forged(store, aud=[store.audience])
    yield _forged(store, iss="other")
    yield _forged(store, iat=now - 7200, exp=now - 60)
    yield _forged(store, iat=now + 3600, exp=now + 7200)
    yield _forged(store, iat=10**30, exp=10**31)
    yield _forged(store, exp=now + 400 * 86400)
    yield _forged(store, roles=["operate"])
    yield from (_forged(store, **{name: None}) for name in ("exp", "iat", "iss", "aud", "jti"))
    yield _forged(store, jti="../key")
    yield "x" * 1_000_000
    yield from ("", ".", "..", "a.b.c", "é.é.é", '{"alg":"HS256"}')


def test_nothing_else_is_accepted(store: TokenStore) -> None:
    tried = list(_bad_tokens(store))
    for text in tried:
        with pytest.raises(InvalidToken):
            store.verify(text)
    assert len(tried) > 20


def test_a_rotated_key_ends_every_token(store: TokenStore) -> None:
    text, _ = store.create("me", ["read"], life=HOUR)
    assert store.rotate_key() == 1
    with pytest.raises(InvalidToken):
        store.verify(text)
    assert store.all() == []


def test_a_short_key_or_one_that_others_can_read_is_refused(store: TokenStore) -> None:
    file = store.folder / "key"
    file.chmod(0o644)
    with pytest.raises(ConfigError, match=r"other users may read it: run `chmod 600"):
        store.open()
    file.chmod(0o600)
    file.write_bytes(b"short")
    with pytest.raises(ConfigError, match="5 bytes is too short"):
        store.open()


def test_other_queues_do_not_accept_it(store: TokenStore, tmp_path: Path) -> None:
    text, _ = store.create("me", ["read"], life=HOUR)
    (tmp_path / "other.toml").write_text(f'database = "{store.folder.parent / "other.db"}"')
    other = TokenStore(load_settings(tmp_path / "other.toml"))
    other.open()  # with the same key and tokens
    with pytest.raises(InvalidToken):
        other.verify(text)


def test_names_roles_and_lives_are_checked(store: TokenStore) -> None:
    store.create("me", ["read"], life=HOUR)
    with pytest.raises(WrongState, match="revoke it first"):
        store.create("me", ["read"], life=HOUR)
    for name, roles, life in (
        ("../me", ["read"], HOUR),
        ("you", ["root"], HOUR),
        ("you", [], HOUR),
        ("you", ["read"], timedelta(days=367)),
        ("you", ["read"], timedelta(0)),
    ):
        with pytest.raises(UsageError):
            store.create(name, roles, life=life)
    with pytest.raises(NotFound, match="jobq token list"):
        store.named("you")


def test_of_many_who_take_a_code_one_gets_it(store: TokenStore) -> None:
    code = store.create_code([Role.READ])
    got: list[str] = []

    def take() -> None:
        with suppress(InvalidToken):
            got.append(store.log_in(code, HOUR)[0])

    threads = [threading.Thread(target=take) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert store.verify(got[0]).session


def test_a_code_expires(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    code = store.create_code([Role.READ])
    later = utcnow() + timedelta(seconds=61)
    monkeypatch.setattr("jobq.web.tokens.utcnow", lambda: later)
    with pytest.raises(InvalidToken, match="expired"):
        store.log_in(code, HOUR)


def test_old_tokens_and_codes_are_forgotten(store: TokenStore) -> None:
    store.create("me", ["read"], life=HOUR)
    store.create_code([Role.READ])
    store.forget_expired(utcnow())
    assert len(store.all()) == 1
    store.forget_expired(utcnow() + 2 * HOUR)
    assert store.all() == []
    assert list((store.folder / "codes").iterdir()) == []
