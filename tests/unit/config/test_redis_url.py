"""Addresses of Redis servers, and their options."""

import pytest

from jobq.config.redis_url import parse_url
from jobq.errors import (
    UsageError,
)


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://h:x/0",
        "http://h",
        "unix://",
        "redis://h/0?name=a b",
        "redis://h/zero",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        parse_url(url)


@pytest.mark.parametrize(
    "option",
    [
        "bogus=1",
        "decode_responses=1",
        "protocol=3",
        "wait=x",
        "wait=",
        "db=-1",
        "socket_timeout=-1",
        "socket_timeout=0.0",
        "socket_timeout=nan",
        "socket_timeout=1e9",
        "client_name=a%20b",
        "health_check_interval=1.5",
        "ssl_check_hostname=perhaps",
        "ssl_cert_reqs=some",
        "ssl_keyfile=",
        "ssl_keyfile=/x",
    ],
)
def test_an_option_that_is_not_known_or_has_no_such_value_is_named(option: str) -> None:
    with pytest.raises(UsageError, match=f"^expected .*{option.partition('=')[0]}"):
        parse_url(f"rediss://h/0?{option}")


def test_an_option_of_tls_without_it_is_refused() -> None:
    with pytest.raises(UsageError, match="expected rediss://"):
        parse_url("redis://h/0?ssl_ca_certs=/x")


def test_an_address_is_shown_without_its_password() -> None:
    url = parse_url(
        "rediss://me:s3cret@[::1]:7000/3?name=x&wait=1&ssl_certfile=c&ssl_password=hidden"
    )
    assert url.shown == "rediss://me@[::1]:7000/3?ssl_certfile=c&ssl_password=***&name=x&wait=1"
    assert url.server == "rediss://me:s3cret@[::1]:7000/3?ssl_certfile=c&ssl_password=hidden"
    assert url.prefix == "{x}:"
    assert url.secret
    assert not parse_url("redis://me@H:1?socket_timeout=2&wait=01").secret
