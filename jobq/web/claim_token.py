"""Claims as pull workers hold them: signed, and the same text each time for the same attempt."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from jobq.models import AttemptKey, Claim
from jobq.web.caller import Caller
from jobq.web.problems import Problem
from jobq.web.tokens import MAX_LIFE, InvalidToken, TokenStore

OWNER_PREFIX = "http:"
"""The prefix of owners that claim over HTTP."""

CLOCK_DIFFERENCE = timedelta(days=1)
"""By how much the backend's clock, which stamps attempts, may be ahead of this host's."""


def owner_of(caller: Caller, worker: str, instance: str) -> str:
    """Return the owner of what a process of a worker claims."""
    return f"{OWNER_PREFIX}{caller.sub}:{worker}:{instance}"


@dataclass(frozen=True, slots=True)
class HeldClaim:
    """An attempt, and the owner that it was given to."""

    key: AttemptKey
    owner: str

    @property
    def sub(self) -> str:
        """The name of the token that claimed it."""
        return self.owner.removeprefix(OWNER_PREFIX).partition(":")[0]


def claim_of(claim: Claim) -> HeldClaim:
    """Return what a claim's text stands for."""
    return HeldClaim(claim.key, claim.owner)


def sign_claim(tokens: TokenStore, held: HeldClaim) -> str:
    """Return the text of a claim. It is made from the attempt alone: heartbeats name it again."""
    key = held.key
    issued = int((key.started_at - CLOCK_DIFFERENCE).timestamp())
    claims = {
        "sub": held.sub,
        "jti": f"{key.job_id}.{key.attempt}",
        "iat": issued,
        "exp": issued + int(MAX_LIFE.total_seconds()),
        "job": key.job_id,
        "attempt": key.attempt,
        "start": key.started_at.isoformat(),
        "owner": held.owner,
    }
    return tokens.sign(claims, _audience(tokens))


def read_claim(tokens: TokenStore, text: str, caller: Caller) -> HeldClaim:
    """Return the attempt that a caller names by its claim.

    Raises:
        Problem: it is none, or was given to another token: 404.
    """
    try:
        claims: dict[str, Any] = tokens.claims_of(text, _audience(tokens))
        start = datetime.fromisoformat(claims["start"])
        held = HeldClaim(AttemptKey(claims["job"], claims["attempt"], start), claims["owner"])
    except (InvalidToken, KeyError, ValueError, TypeError):
        raise _no_such_claim() from None
    if claims["sub"] != caller.sub or held.sub != caller.sub:
        raise _no_such_claim()
    return held


def _audience(tokens: TokenStore) -> str:
    return f"{tokens.audience}:claim"


def _no_such_claim() -> Problem:
    return Problem(404, "no_such_claim", "no such claim: use the one that POST /claims answered")


def claim_lost(held: HeldClaim) -> Problem:
    """Return the problem of a claim that its owner holds no more."""
    return Problem(
        409,
        "claim_lost",
        f"attempt {held.key.attempt} of job {held.key.job_id} has ended, or was given to another "
        "worker: stop working on it",
    )
