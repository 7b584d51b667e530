"""`Caller`: the token of a request, and where it came from."""

from datetime import datetime

from jobq.models import Job
from jobq.web.tokens import Role, Token

BY_TAG = "jobq:by"
"""The tag of a job that was added over HTTP: the name of the token that did."""


class Caller:
    """The one who calls: a token, and the address it came from."""

    def __init__(self, token: Token, address: str, request_id: str) -> None:
        self.token = token
        self.address = address
        self.request_id = request_id

    @property
    def sub(self) -> str:
        """The name of the token."""
        return self.token.sub

    @property
    def jti(self) -> str:
        """The id of the token."""
        return self.token.jti

    @property
    def roles(self) -> frozenset[Role]:
        """Its rights."""
        return self.token.roles

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that it may claim from; none: all."""
        return self.token.queues

    @property
    def types(self) -> tuple[str, ...]:
        """The types of jobs that it may claim; none: all."""
        return self.token.types

    @property
    def expires_at(self) -> datetime:
        """When the token expires."""
        return self.token.expires_at

    def has(self, role: Role) -> bool:
        """Return whether it has a right."""
        return self.token.has(role)

    def may_see(self, job: Job) -> bool:
        """Return whether it may read a job: all, or with `submit` alone those that it added."""
        return self.has(Role.READ) or job.tags.get(BY_TAG) == self.sub
