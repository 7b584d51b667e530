"""``jobq web``: open the web page, logged in."""

import threading
import webbrowser
from typing import Annotated

from jobq.cli.commands.serve import run_server
from jobq.cli.context import Cli
from jobq.cli.parsing.declarations import Context, option
from jobq.cli.rendering.output import note
from jobq.cli.web_extra import web_extra


def command(
    ctx: Context,
    print_only: Annotated[
        bool, option("--print", help="Print the URL in place of opening it.")
    ] = False,
    read_only: Annotated[
        bool, option("--read-only", help="Log in without the right to change.")
    ] = False,
) -> None:
    """Open the web page in your browser, logged in.

    The URL has a code that logs in once, within a minute. Where no server runs, one is started,
    until Ctrl-C.

    Examples:
        jobq web
        jobq web --print --read-only
    """
    cli: Cli = ctx.obj
    settings = cli.settings()
    with web_extra():
        from jobq.web.presence import running_urls
        from jobq.web.tokens import Role, TokenStore
    roles = [Role.READ] if read_only else [Role.READ, Role.OPERATE, Role.SUBMIT]

    def show(url: str) -> None:
        tokens = TokenStore(settings)
        tokens.open()
        _show(f"{url}/#code={tokens.create_code(roles)}", print_only=print_only)

    if (url := next(running_urls(settings), None)) is not None:
        show(url)
        return
    note("No server runs: starting one (Ctrl-C stops it)")
    # In a thread: a browser of the terminal returns when it is left, and needs the server before.
    run_server(
        settings,
        on_ready=lambda url: threading.Thread(target=show, args=[url], daemon=True).start(),
    )


def _show(url: str, *, print_only: bool) -> None:
    if print_only or not webbrowser.open(url):
        print(url, flush=True)
