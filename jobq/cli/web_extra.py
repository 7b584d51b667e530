"""The extra `jobq[web]`: its libraries are imported by `serve`, `web` and `token` alone."""

from collections.abc import Iterator
from contextlib import contextmanager

from jobq.errors import JobqError

_LIBRARIES = frozenset({
    "fastapi", "httptools", "jwt", "prometheus_client", "starlette", "uvicorn",
})  # fmt: skip


@contextmanager
def web_extra() -> Iterator[None]:
    """Say how to install the libraries if an import inside fails for want of them.

    Raises:
        JobqError: one is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _LIBRARIES:
            raise
        raise JobqError(
            f"{error.name} is not installed: install jobq again, with its extra web: in a checkout, "
            "`uv tool install '.[web]'`, or in its venv `pip install '.[web]'`"
        ) from None
