"""What is secret in a text, and what only speaks of secrets."""

import pytest

from jobq.redaction import Redactor
from jobq.secret_text import REDACTED

SECRET = "hunter2-Zq9"
HIDE = Redactor().of({}, {})

PROSE = [
    "cat: /etc/passwd: Permission denied",
    "permission denied: /etc/passwd: not yours",
    "/etc/passwd:12: malformed entry",
    "passwd: Authentication token manipulation error",
    "passwd: Permission denied",
    "Unexpected token: '}'",
    "Unexpected token: identifier",
    "Unexpected token: 'identifier'",
    "SyntaxError: Unexpected token: name (foo)",
    'Unexpected token "}" (0x7D) in JSON at position 5',
    "unexpected token: ",
    "unexpected token: 12",
    "invalid token: line 3",
    "token: EOF",
    "token: <eof>",
    "token: expired",
    "token: a file without a name",
    "bad credentials: not found",
    "bad credentials: /home/me/.netrc",
    "credentials: no such file or directory",
    "wrong password: try again",
    "password: too short",
    "password: must not be empty",
    "authorization: denied",
    "authorization: token expired",
    "secret-tool: command not found",
    "secret: file not found",
    "max_tokens=4096 exceeds",
    "max_tokens: 4096 exceeds the limit",
    "maxTokens=4096",
    "prompt has 5000 tokens: the limit is 4096",
    "tokens: 512 of 1024",
    "tokens: 512/1024",
    "tokens: 1.5k of 4k (37%)",
    "token_count=12, token_limit=4096",
    "n_tokens = 7",
    "passwords: 3 of 10 checked",
    "password_length=12 is too short",
    "secret_version: 3",
    "if token == null",
    "token != 5",
    "token_offline_response.json: not a readable media file",
    "tokenizer.py:120:5: undefined name",
    "secrets.tar.gz: unexpected end of archive",
    "option --token requires an argument",
    "unrecognized option: --password",
    "usage: tool [--token TOKEN] [--password PASSWORD] file",
    "cookie: not found",
    "cookies: 3 of 4 loaded",
    "curl: (22) The requested URL returned error: 404",
    "docker login failed: unauthorized",
    "http://h:80/a@b",
    "ssh://git@example.org/x.git",
    "mail to me@example.org: refused",
]


@pytest.mark.parametrize("text", PROSE)
def test_prose_is_legible(text: str) -> None:
    assert HIDE.text(text) == text
    assert HIDE.text(f"exit code 1: {text}") == f"exit code 1: {text}"
    assert HIDE.text(f"{text}\n{text}") == f"{text}\n{text}"


@pytest.mark.parametrize("text", PROSE)
def test_prose_among_the_words_of_a_command_hides_none_of_its_words(text: str) -> None:
    hide = Redactor().of({"argv": ["logger", text]}, {})
    for word in ("Permission", "denied", "expired", "identifier", "requires an argument", "found"):
        assert hide.text(f"it is {word} here") == f"it is {word} here"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"401 for token={SECRET}", f"401 for token={REDACTED}"),
        (f"login with --password {SECRET} failed", f"login with --password {REDACTED} failed"),
        (f"wrong password: {SECRET}", f"wrong password: {REDACTED}"),
        (f"password: {SECRET}", f"password: {REDACTED}"),
        (f"Authorization: Bearer {SECRET}", f"Authorization: Bearer {REDACTED}"),
        (f"X-Auth-Token: {SECRET}", f"X-Auth-Token: {REDACTED}"),
        (f'{{"password": "word", "token": "{SECRET}" }}', f'{{"password": {REDACTED}, "token": {REDACTED} }}'),
        ("PGPASSWORD=swordfish psql", f"PGPASSWORD={REDACTED} psql"),
        ("spring.datasource.password=x", f"spring.datasource.password={REDACTED}"),
        (f"smtp.password: {SECRET}", f"smtp.password: {REDACTED}"),
        (f"cloning https://{SECRET}@h/x", f"cloning https://{REDACTED}@h/x"),
        (f"cloning https://me:{SECRET}@h/x", f"cloning https://me:{REDACTED}@h/x"),
        (f"redis://u:pa/{SECRET}@h:1/0", f"redis://u:{REDACTED}@h:1/0"),
        (f"redis://u:12/{SECRET}@h", f"redis://u:{REDACTED}@h"),
        (f"http://proxy/?to=https://me:{SECRET}@h/", f"http://proxy/?to=https://me:{REDACTED}@h/"),
        (f"Cookie: session={SECRET}; b={SECRET}", f"Cookie: session={REDACTED}"),
        (f"curl -u me:{SECRET} http://h", f"curl -u me:{REDACTED} http://h"),
    ],
)  # fmt: skip
def test_what_is_assigned_is_hidden_in_prose_too(text: str, shown: str) -> None:
    assert HIDE.text(text) == shown
    assert HIDE.text(shown) == shown


@pytest.mark.parametrize(
    "words",
    [
        ["curl", "-u", f"me:{SECRET}", "http://h"], ["curl", "-sSu", f"me:{SECRET}", "h"],
        ["curl", f"-ume:{SECRET}", "h"], ["curl", f"--user=me:{SECRET}", "h"],
        ["sudo", "/usr/bin/curl", "--proxy-user", f"me:{SECRET}", "h"],
        ["curl", "-b", f"session={SECRET}", "h"], ["curl", "-H", f"Cookie: session={SECRET}"],
        ["curl", "-H", f"cookie:a=b; session={SECRET}"], ["sh", "-c", f"curl -u me:{SECRET} h"],
        ["sh", "-c", f"curl -sS --user 'me:{SECRET}' h | jq ."],
        ["sh", "-c", f"curl -H 'Cookie: session={SECRET}' h"],
        ["docker", "login", "-u", "me", "-p", SECRET, "h"], ["podman", "login", f"-p{SECRET}"],
        ["sh", "-c", f"docker login -u me -p {SECRET} h"], ["git", "clone", f"https://{SECRET}@h/x"],
        ["redis-cli", "-u", f"redis://u:pa/{SECRET}@h"], ["x", "-H", f"X-Api-Key: {SECRET}"],
        ["x", f"--header=Authorization: token {SECRET}"],
    ],
)  # fmt: skip
def test_passwords_that_a_command_is_given_are_hidden(words: list[str]) -> None:
    hide = Redactor().of({"argv": words}, {})
    shown = hide.value({"argv": words})["argv"]
    assert SECRET not in str(shown)
    assert len(shown) == len(words)
    if len(words) > 3:
        assert hide.text(f"as {SECRET} said") == f"as {REDACTED} said"
    assert hide.value(shown) == shown


@pytest.mark.parametrize(
    "words",
    [
        ["docker", "run", "-u", "1000:1000", "-p", "80:80", "x"], ["curl", "-b", "cookies.txt", "h"],
        ["docker", "login", "--password-stdin", "registry.example"],
        ["llm", "--max-tokens", "128000"], ["llm", "--max-tokens=128000"],
        ["tool", "--token-file", "/run/secrets/token"], ["tool", "--password-file=./pw.txt"],
        ["echo", "passwd: Permission denied"], ["grep", "token:", "a file"],
        ["ssh", "git@example.org"], ["rsync", "-p", "a:b", "c"], ["jq", "tokens: 5 of 7"],
    ],
)  # fmt: skip
def test_words_of_a_command_that_are_no_secrets_stay(words: list[str]) -> None:
    hide = Redactor().of({"argv": words}, {})
    assert hide.secrets == ()
    assert hide.value(words) == words


def test_counts_of_tokens_are_no_secrets_and_tokens_are() -> None:
    args = {"max_tokens": 128000, "tokens": "4096", "token": 123456, "password": 123456}
    hide = Redactor().of(args, {})
    assert hide.value(args) == {**args, "token": REDACTED, "password": REDACTED}
    assert hide.text("of 128000 tokens") == "of 128000 tokens"


def test_names_of_a_setting_and_declared_secrets_hide_any_value() -> None:
    args = {"pin": 1234, "max_tokens": 4096}
    assert Redactor(("*pin*",)).of(args, {}).value(args) == {**args, "pin": REDACTED}
    declared = Redactor().of(args, {"jobq:secret": "max_tokens"})
    assert declared.value(args) == {**args, "max_tokens": REDACTED}
    shown = Redactor(()).of(args, {})
    for text in (f"curl -u me:{SECRET} h", f"Cookie: a={SECRET}", f"token={SECRET}"):
        assert shown.text(text) == text
