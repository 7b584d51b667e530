"""``jobq token``: make and revoke the tokens of HTTP clients."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

from jobq.cli.context import Cli
from jobq.cli.parsing.declarations import Argument, Context, option
from jobq.cli.parsing.options import AsJson
from jobq.cli.parsing.typer_adapter import group_app, verb
from jobq.cli.rendering.output import note, print_fields, print_json
from jobq.cli.rendering.table import print_columns
from jobq.cli.web_extra import web_extra
from jobq.clock import utcnow
from jobq.units import format_elapsed, format_moment, parse_duration

if TYPE_CHECKING:
    from jobq.web.tokens import Token, TokenStore

app = group_app(
    "Make and revoke the tokens of HTTP clients.",
    [
        "jobq token create laptop --role operate,submit",
        "jobq token revoke laptop",
    ],
)

DEFAULT_LIFE = "90d"

Name = Annotated[str, Argument(metavar="NAME", help="The name of the token.")]
Names = Annotated[list[str], Argument(metavar="NAME...", help="The names of tokens.")]


@verb(app)
def create(
    ctx: Context,
    name: Name,
    role: Annotated[
        list[str],
        option("--role", metavar="R[,R]", help="Allow read, operate, submit or worker."),
    ],
    queue: Annotated[
        list[str] | None,
        option("--queue", metavar="QUEUE", help="Let it claim from this queue; repeatable."),
    ] = None,
    of_type: Annotated[
        list[str] | None,
        option("--type", metavar="TYPE", help="Let it claim jobs of this type; repeatable."),
    ] = None,
    expires: Annotated[
        str, option("--expires", metavar="SPAN", help="Let it expire after this long, e.g. 90d.")
    ] = DEFAULT_LIFE,
    quiet: Annotated[bool, option("--quiet", "-q", help="Print the token alone.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it. It is shown this once.

    Examples:
        jobq token create laptop --role operate,submit
        jobq token create worker-1 --role worker --queue gpu --expires 30d -q
    """
    store = _store(ctx.obj)
    text, token = store.create(
        name,
        [word.strip() for words in role for word in words.split(",")],
        life=timedelta(seconds=parse_duration(expires)),
        queues=queue or (),
        types=of_type or (),
    )
    if as_json:
        print_json({"token": text, **_document(token)})
        return
    print(text)
    if not quiet:
        note(
            f"Token {name} ({', '.join(sorted(token.roles))}) expires "
            f"{format_moment(token.expires_at)}. It is not shown again."
        )


@verb(app, "list")
def list_tokens(ctx: Context, as_json: AsJson = False) -> None:
    """List the tokens."""
    tokens = _store(ctx.obj).all()
    if as_json:
        print_json([_document(token) for token in tokens])
        return
    print_columns(
        {
            "name": [token.sub for token in tokens],
            "roles": [", ".join(sorted(token.roles)) for token in tokens],
            "expires": [_expiry(token) for token in tokens],
            "made by": ["a login" if token.session else "" for token in tokens],
        }
    )


@verb(app)
def show(ctx: Context, name: Name, as_json: AsJson = False) -> None:
    """Show what a token allows."""
    token = _store(ctx.obj).named(name)
    if as_json:
        print_json(_document(token))
        return
    print_fields(
        [
            ("token", token.sub),
            ("id", token.jti),
            ("roles", ", ".join(sorted(token.roles))),
            ("queues", ", ".join(token.queues) or "all"),
            ("types", ", ".join(token.types) or "all"),
            ("created", format_moment(token.created_at)),
            ("expires", format_moment(token.expires_at)),
            ("made by", "a login" if token.session else "jobq token create"),
        ]
    )


@verb(app)
def revoke(ctx: Context, names: Names) -> None:
    """Revoke tokens: the next request with one is refused."""
    store = _store(ctx.obj)
    for token in [store.named(name) for name in names]:
        store.revoke(token)
        print(f"Revoked token {token.sub}")


@verb(app, "rotate-key")
def rotate_key(ctx: Context) -> None:
    """Replace the key that tokens are signed with: every token and login ends."""
    ended = _store(ctx.obj).rotate_key()
    print(f"Replaced the key; {ended:,} {'token' if ended == 1 else 'tokens'} ended")
    note("Restart `jobq serve`: it has read the old key")


def _store(cli: Cli) -> "TokenStore":
    with web_extra():
        from jobq.web.tokens import TokenStore
    store = TokenStore(cli.settings())
    store.open()
    return store


def _document(token: "Token") -> dict[str, object]:
    document = token.document()
    del document["kid"]
    return document


def _expiry(token: "Token") -> str:
    now = utcnow()
    return "expired" if token.is_expired(now) else f"in {format_elapsed(now, token.expires_at)}"
