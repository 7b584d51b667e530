"""Addresses of Redis servers, and their options."""

import json
from pathlib import Path

import pytest

from jobq.config.loader import load_settings
from jobq.config.redis_url import mistyped_address, parse_url
from jobq.errors import ConfigError, UsageError


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


@pytest.mark.parametrize(
    "address",
    [
        "redis://u:pa/S3CRET@h", "redis://u:pa#S3CRET@h", "redis://u:pa?S3CRET@h",
        "redis://u:12/S3CRET@h", "redis://u:12?S3CRET@h", "redis:/u:S3CRET@h:6379",
        "redis:u:S3CRET@h", "redis//u:S3CRET@h", "u:S3CRET@h", "REDIS://u:S3CRET@h/0",
        "redis://u:S3CRET", "redis://u:pa[S3CRET@h", "redis://h/0?password=a&S3CRET",
        "rediss:/:S3CRET@h", "http://u:S3CRET@h/",
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_read_is_not_shown(tmp_path: Path, address: str) -> None:
    file = tmp_path / "jobq.toml"
    file.write_text("")
    with pytest.raises(ConfigError, match=r"\$JOBQ_BACKEND: expected") as by_variable:
        load_settings(file, environ={"JOBQ_BACKEND": address})
    file.write_text(f"backend = {json.dumps(address)}")
    with pytest.raises(ConfigError, match=r"jobq\.toml:1: backend: expected") as in_file:
        load_settings(file, environ={})
    assert "S3CRET" not in str(by_variable.value) + str(in_file.value)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("redis://db.example:6379/x", "redis://db.example:6379…"),
        ("redis://db.example/x", "redis://db.example…"),
        ("http://u:p@h", "http:…"),
        ("sqlite3", None),
        (".jobq/jobs:2.db", None),
    ],
)
def test_what_is_shown_of_an_address_that_cannot_be_read(address: str, shown: str | None) -> None:
    assert mistyped_address(address) == shown
