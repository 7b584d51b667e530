"""Tokens: signed with a key that only this user can read, and each kept as a file.

Deleting the file revokes the token. The key, the tokens and the login codes are in `serve/` beside
the database. This module knows nothing of HTTP: the command line uses it, too.
"""

import hashlib
import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import jwt

from jobq.clock import utcnow
from jobq.config.settings import SQLITE, Settings
from jobq.config.trust import readers, refuse_foreign
from jobq.errors import ConfigError, JobqError, NotFound, UsageError, WrongState
from jobq.models import QUEUE_NAME
from jobq.units import format_moment
from jobq.web.files import (
    make_private,
    read_document,
    write_document,
    write_private,
)

KEY_BYTES = 32
MAX_TOKEN_CHARS = 4096
MAX_LIFE = timedelta(days=366)
LEEWAY_S = 10
CODE_LIFE = timedelta(seconds=60)
ISSUER = "jobq"
ALGORITHM = "HS256"

_JTI = re.compile(r"[0-9a-f]{32}")


class Role(StrEnum):
    """A right that a token gives."""

    READ = "read"
    OPERATE = "operate"  # with read: cancel, retry, bulk, queues, schedules, audit
    SUBMIT = "submit"  # add jobs, and read those that it added
    WORKER = "worker"  # claim jobs of its queues and types


def parse_roles(names: Collection[str]) -> frozenset[Role]:
    """Return roles by their names.

    Raises:
        UsageError: there is no such role, or none is named.
    """
    try:
        roles = frozenset(Role(name) for name in names)
    except ValueError:
        roles = frozenset()
    if not roles:
        raise UsageError(f"roles {', '.join(names)!r:.80}: give one or more of {', '.join(Role)}")
    return roles


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as its file keeps it: a person or program, and what it may do."""

    jti: str  # its id
    sub: str  # its name
    roles: frozenset[Role]
    queues: tuple[str, ...] = ()  # that it may claim from; none: all
    types: tuple[str, ...] = ()  # of jobs that it may claim; none: all
    created_at: datetime
    expires_at: datetime
    kid: str  # the key that it was signed with
    session: bool = False  # made by a login, rather than by the command line

    def has(self, role: Role) -> bool:
        """Return whether it gives a right; `operate` includes `read`."""
        return role in self.roles or (role is Role.READ and Role.OPERATE in self.roles)

    def is_expired(self, now: datetime) -> bool:
        """Return whether its time is over."""
        return now >= self.expires_at

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "name": self.sub,
            "jti": self.jti,
            "roles": sorted(self.roles),
            "queues": list(self.queues),
            "types": list(self.types),
            "created_at": format_moment(self.created_at),
            "expires_at": format_moment(self.expires_at),
            "session": self.session,
            "kid": self.kid,
        }


def to_token(document: Mapping[str, Any]) -> Token:
    """Return the token of a document.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    return Token(
        jti=str(document["jti"]),
        sub=str(document["name"]),
        roles=frozenset(map(Role, document["roles"])),
        queues=tuple(document["queues"]),
        types=tuple(document["types"]),
        created_at=datetime.fromisoformat(document["created_at"]),
        expires_at=datetime.fromisoformat(document["expires_at"]),
        kid=str(document["kid"]),
        session=bool(document["session"]),
    )


class InvalidToken(JobqError):
    """A token that is not accepted; the message says why, without the token."""


class TokenStore:
    """The key, tokens and login codes of one queue."""

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.serve_dir
        self.audience = audience_of(settings)
        self._tokens = self.folder / "tokens"
        self._codes = self.folder / "codes"
        self._key_file = self.folder / "key"
        self._key = b""
        self._key_read: tuple[int, int] | None = None  # inode and time of change of its file
        self.kid = ""

    # -- the key ---------------------------------------------------------------------------

    def open(self) -> None:
        """Read the key; make one where there is none.

        Raises:
            ConfigError: the key is too short, or others may read or replace it.
        """
        for folder in (self.folder, self._tokens, self._codes):
            make_private(folder)
        with suppress(FileExistsError):
            if not self._key_file.exists():
                write_private(self._key_file, secrets.token_bytes(KEY_BYTES), replace=False)
        self._take(self._read_key())

    def rotate_key(self) -> int:
        """Replace the key; return how many tokens that ends: all."""
        self.open()
        key = secrets.token_bytes(KEY_BYTES)
        write_private(self._key_file, key)
        self._take(self._read_key())
        ended = [self._file(token.jti) for token in self.all()]
        for file in ended:
            file.unlink(missing_ok=True)
        return len(ended)

    def _notice_rotation(self) -> None:
        """Read the key anew if it was replaced: `jobq token rotate-key` runs elsewhere.

        Raises:
            InvalidToken: the new one is not safe to use.
        """
        try:
            if self._key_read != _stamp_of(self._key_file):
                self._take(self._read_key())
        except (ConfigError, OSError):
            raise InvalidToken("the server's key can't be used: run `jobq doctor`") from None

    def _read_key(self) -> bytes:
        refuse_foreign(self._key_file)
        if (who := readers(self._key_file)) is not None:
            raise ConfigError(
                f"{self._key_file}: {who} may read it: run `chmod 600 {self._key_file}`, then "
                "`jobq token rotate-key`"
            )
        self._key_read = _stamp_of(self._key_file)
        key = self._key_file.read_bytes()
        if len(key) < KEY_BYTES:
            raise ConfigError(
                f"{self._key_file}: a key of {len(key)} bytes is too short: delete the file, and "
                f"jobq makes one of {KEY_BYTES}"
            )
        return key

    def _take(self, key: bytes) -> None:
        self._key = key
        self.kid = hashlib.sha256(b"kid:" + key).hexdigest()[:16]

    # -- tokens ----------------------------------------------------------------------------

    def create(
        self,
        name: str,
        roles: Collection[str],
        *,
        life: timedelta,
        queues: Collection[str] = (),
        types: Collection[str] = (),
        session: bool = False,
    ) -> tuple[str, Token]:
        """Make a token; return its text, which is not kept, and what it stands for.

        Raises:
            UsageError: the name, a role or the life is wrong.
            WrongState: there is a token of that name.
        """
        if not QUEUE_NAME.fullmatch(name):
            raise UsageError(f"name {name!r:.80}: give up to 64 letters, digits and . _ -")
        if not timedelta(0) < life <= MAX_LIFE:
            raise UsageError(f"a token lives at most {MAX_LIFE.days}d: give a shorter --expires")
        self._notice_rotation()
        now = utcnow().replace(microsecond=0)
        if any(token.sub == name and not token.is_expired(now) for token in self.all()):
            raise WrongState(f"there is a token {name}: revoke it first, or choose another name")
        token = Token(
            jti=secrets.token_hex(16),
            sub=name,
            roles=parse_roles(roles),
            queues=tuple(queues),
            types=tuple(types),
            created_at=now,
            expires_at=now + life,
            kid=self.kid,
            session=session,
        )
        write_document(self._file(token.jti), token.document(), replace=False)
        return self._sign(token), token

    def verify(self, text: str) -> Token:
        """Return the token that a text is.

        Raises:
            InvalidToken: it is none of ours, has expired, or was revoked.
        """
        if len(text) > MAX_TOKEN_CHARS:
            raise InvalidToken("the token is too long")
        claims = self.claims_of(text, self.audience)
        token = self.kept(str(claims["jti"]))
        if token is None:
            raise InvalidToken("the token was revoked: make one with `jobq token create`")
        if _claims(token, self.audience) != claims or token.kid != self.kid:
            raise InvalidToken("the token does not agree with its file: make another one")
        return token

    def kept(self, jti: str) -> Token | None:
        """Return the token of an id; None if it was revoked."""
        document = read_document(self._file(jti)) if _JTI.fullmatch(jti) else None
        try:
            return to_token(document) if document else None
        except (KeyError, TypeError, ValueError):
            return None

    def all(self) -> list[Token]:
        """Return every token that is kept, expired ones included, by name."""
        files = self._tokens.glob("*.json") if self._tokens.is_dir() else ()
        found = [self.kept(file.stem) for file in files]
        return sorted((token for token in found if token), key=lambda token: token.sub)

    def named(self, name: str) -> Token:
        """Return the token of a name.

        Raises:
            NotFound: there is none.
        """
        for token in self.all():
            if token.sub == name:
                return token
        raise NotFound(f"no token {name!r:.80}: see `jobq token list`")

    def revoke(self, token: Token) -> None:
        """End a token."""
        self._file(token.jti).unlink(missing_ok=True)

    def _file(self, jti: str) -> Path:
        return self._tokens / f"{jti}.json"

    # -- signatures ------------------------------------------------------------------------

    def sign(self, claims: Mapping[str, Any], audience: str) -> str:
        """Return claims signed for an audience of one's own; they need `exp`, `jti` and `sub`."""
        self._notice_rotation()
        full = {"iss": ISSUER, "aud": audience, "iat": int(utcnow().timestamp()), **claims}
        return jwt.encode(full, self._key, algorithm=ALGORITHM, headers={"kid": self.kid})

    def claims_of(self, text: str, audience: str) -> dict[str, Any]:
        """Return what was signed for an audience.

        Raises:
            InvalidToken: it was not signed here, was changed, or has expired.
        """
        self._notice_rotation()
        try:
            header = jwt.get_unverified_header(text)
            if header.get("kid") != self.kid or "crit" in header:
                raise InvalidToken("the token was signed with another key: make another one")
            claims = jwt.decode(
                text,
                self._key,
                algorithms=[ALGORITHM],
                audience=audience,
                issuer=ISSUER,
                leeway=LEEWAY_S,
                options={
                    "require": ["exp", "iat", "iss", "aud", "jti", "sub"],
                    "strict_aud": True,
                    "enforce_minimum_key_length": True,
                },
            )
            if not 0 < claims["exp"] - claims["iat"] <= MAX_LIFE.total_seconds():
                raise InvalidToken("the token lives too long: make another one")
        except jwt.ExpiredSignatureError:
            raise InvalidToken("the token has expired: make another one") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise InvalidToken(
                "the token is not valid: make one with `jobq token create`"
            ) from None
        return claims

    def _sign(self, token: Token) -> str:
        return self.sign(_claims(token, self.audience), self.audience)

    # -- login codes -----------------------------------------------------------------------

    def create_code(self, roles: Collection[Role]) -> str:
        """Return a code that a login with these roles takes: once, within `CODE_LIFE`."""
        code = secrets.token_urlsafe(32)
        expires = format_moment(utcnow() + CODE_LIFE)
        write_document(self._code_file(code), {"roles": sorted(roles), "expires_at": expires})
        return code

    def log_in(self, code: str, life: timedelta) -> tuple[str, Token]:
        """Exchange a code for a token; of several who try, one gets it.

        Raises:
            InvalidToken: the code is not known, was used, or has expired.
        """
        file = self._code_file(code)
        document = read_document(file) or {}
        try:
            file.unlink()
        except FileNotFoundError:
            raise InvalidToken("the code is not valid: run `jobq web` again") from None
        expires = datetime.fromisoformat(document.get("expires_at", "1970-01-01T00:00:00Z"))
        if utcnow() >= expires:
            raise InvalidToken("the code has expired: run `jobq web` again")
        name = f"web-{secrets.token_hex(4)}"
        return self.create(name, document["roles"], life=life, session=True)

    def _code_file(self, code: str) -> Path:
        return self._codes / hashlib.sha256(code.encode("utf-8", "replace")).hexdigest()

    # -- upkeep ----------------------------------------------------------------------------

    def forget_expired(self, now: datetime) -> None:
        """Delete the files of tokens and codes whose time is over."""
        for token in self.all():
            if token.is_expired(now):
                self.revoke(token)
        for file in self._old_codes(now):
            file.unlink(missing_ok=True)

    def _old_codes(self, now: datetime) -> Iterator[Path]:
        for file in self._codes.iterdir():
            with suppress(FileNotFoundError):
                if datetime.fromtimestamp(file.stat().st_mtime, UTC) < now - 2 * CODE_LIFE:
                    yield file


def _stamp_of(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_ino, found.st_mtime_ns


def _claims(token: Token, audience: str) -> dict[str, Any]:
    return {
        "iss": ISSUER,
        "aud": audience,
        "sub": token.sub,
        "jti": token.jti,
        "iat": int(token.created_at.timestamp()),
        "exp": int(token.expires_at.timestamp()),
        "roles": sorted(token.roles),
        "queues": list(token.queues),
        "types": list(token.types),
    }


def audience_of(settings: Settings) -> str:
    """Return the name of a queue in its tokens: no other queue accepts them.

    It is made from the settings, not asked of the backend: a Redis server identifies itself by a
    number that changes whenever it restarts, and tokens are to outlive that.
    """
    if settings.backend == SQLITE:
        place = str(settings.database.resolve())
    else:
        place = settings.backend_shown
    return "jobq:" + hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:32]
