"""``jobq serve``: serve jobs over HTTP."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from jobq.backends.outage import Outage
from jobq.cli.context import Cli, complain
from jobq.cli.parsing.declarations import Context, Group, option
from jobq.cli.rendering.output import note
from jobq.cli.web_extra import web_extra
from jobq.config import parsers
from jobq.config.settings import Settings
from jobq.errors import UsageError
from jobq.inert import inert
from jobq.queue import JobQueue


class Address(Group):
    """The options that say where to listen, in place of those in jobq.toml."""

    host: Annotated[
        str | None, option("--host", metavar="ADDRESS", help="Listen on this address.")
    ] = None
    port: Annotated[
        str | None, option("--port", metavar="N", help="Listen on this port (0: any free one).")
    ] = None
    socket: Annotated[
        str | None, option("--socket", metavar="PATH", help="Listen on this Unix socket, too.")
    ] = None
    public_url: Annotated[
        str | None,
        option("--public-url", metavar="URL", help="Clients use this URL, e.g. that of a proxy."),
    ] = None
    tls_cert: Annotated[
        str | None, option("--tls-cert", metavar="FILE", help="Use this certificate (PEM).")
    ] = None
    tls_key: Annotated[
        str | None, option("--tls-key", metavar="FILE", help="Use this key of it (PEM).")
    ] = None

    def given(self) -> dict[str, Any]:
        """Return the settings that were given.

        Raises:
            UsageError: one is not valid.
        """
        given: dict[str, Any] = {}
        if self.host is not None:
            given["host"] = _parsed("--host", self.host, parsers.text)
        if self.port is not None:
            given["port"] = _parsed("--port", self.port, parsers.port)
        if self.public_url is not None:
            given["public_url"] = _parsed("--public-url", self.public_url, parsers.public_url)
        for name in ("socket", "tls_cert", "tls_key"):
            if (value := getattr(self, name)) is not None:
                given[name] = Path(value).expanduser().absolute()
        return given


def command(
    ctx: Context,
    address: Address,
    read_only: Annotated[bool, option("--read-only", help="Refuse every change.")] = False,
    no_page: Annotated[bool, option("--no-page", help="Serve the API alone, no web page.")] = False,
    reuse_port: Annotated[
        bool, option("--reuse-port", help="Share the port with other servers.")
    ] = False,
) -> None:
    """Serve jobs over HTTP until told to stop.

    Clients need a token: see `jobq token create`.

    Examples:
        jobq serve
        jobq serve --port 8080 --read-only
    """
    cli: Cli = ctx.obj
    given = address.given()
    if read_only:
        given["read_only"] = True
    if no_page:
        given["page"] = False
    settings = cli.settings()
    run_server(replace(settings, serve=replace(settings.serve, **given)), reuse_port=reuse_port)


def run_server(
    settings: Settings,
    *,
    reuse_port: bool = False,
    on_ready: Callable[[str], None] = lambda url: note(f"Serving on {url} (Ctrl-C stops)"),
) -> None:
    """Serve the queue of these settings, until told to stop.

    Raises:
        JobqError: the extra is not installed, or the server can't start.
    """
    with web_extra():
        from jobq.web.server import serve
    outage = Outage(complain)  # the server may start after us
    with outage.until_answered(lambda: JobQueue.from_settings(settings)) as queue:
        serve(
            queue,
            reuse_port=reuse_port,
            log=lambda line: print(inert(line), flush=True),
            on_ready=on_ready,
        )


def _parsed(name: str, value: str, parse: parsers.Parse) -> Any:
    try:
        return parse(value)
    except UsageError as error:
        raise UsageError(f"{name}: {error}, got {value!r:.80}") from None
