"""Secrets in text: what is named as one and assigned, in commands and in prose. Pure.

In a command, whatever is assigned to a secret name is secret: ``--token X``, ``TOKEN=X``. In prose,
as in an error, a name may just be spoken of: ``passwd: Permission denied``. There, numbers, words,
paths and signs are no secrets.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

IsSecret = Callable[[str], bool]
"""Whether values of this name are secret."""

REDACTED = "[redacted-by-jobq]"
"""Stands in for a secret."""

_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*+"
_QUOTED = r"\"(?:\\.|[^\"\\])*+(?:\"|\Z)|'[^']*+(?:'|\Z)|\\."  # or cut short in a quotation
_SCHEMES = r"(?i:bearer|basic|token|apikey)"

# Compiled when they are needed, which `jobq add` does not wait for.
_ASSIGNED = (
    rf"(?<![A-Za-z0-9_.-])(?P<name>-{{0,2}}{_NAME})(?P<quote>[\"']?)\s*+"
    rf"(?P<sign>:=|=(?!=)|:)(?P<space>\s*+)(?:(?P<scheme>{_SCHEMES})\s++)?"
)
_ASSIGNED_VALUE = rf"(?s:{_QUOTED}|[^\s\"'&;,\\])++"
_OPTION = rf"(?<![^\s\"'])(?P<name>--?{_NAME})\s++(?!-)"
_OPTION_VALUE = rf"(?s:{_QUOTED}|[^\s\"'\\])++"
_WORD = rf"(?s:(?P<before>-{{0,2}}(?P<name>{_NAME})(?P<sign>=|:)\s*)(?P<value>.+))"
_COOKIE = r"(?i:(?<![\w-])((?:set-)?cookie:\s*+[^\s\"'=;]++=))([^\"'\n]+)"
_ADDRESS = r"://((?:(?!://)[^\s\"'<>])*+)"
_SCHEME_BEFORE = r"[A-Za-z][A-Za-z0-9+.-]*\Z"
_MAX_SCHEME_CHARS = 20
_MAX_SPACES = 20

_COUNT = (
    r"tokens\b|(?:^|_)(?:max|min|num|n|total|count|limit|size|length|len|age|ttl|timeout|budget"
    r"|version|expir\w*|used|left|remaining)(?:_|$)"
)
"""Names of numbers about secrets."""

_PLACE = r"(?:_|^)(?:file|filename|path|dir|directory|folder)$"
"""Names of places where secrets are kept."""

_NUMBER = r"[-+]?\d[\d.,:/_%-]*(?:e[-+]?\d+)?[a-zA-Z]{0,3}"
_PROSE = r"[^\W\d_]+(?:[-_.'/][^\W\d_]+)*"  # words: also read-only, can't, not_found, package.json
_PATH = r"(?:\.{0,2}/|~|[A-Za-z]:\\).*"

_MAX_PROSE_CHARS = 2000
"""Of a value that may be something else than a secret; a longer one has no spaces, either."""

_MIN_STRONG_CHARS = 8
"""Of a secret behind a name in the middle of a sentence."""

_WEB = frozenset({"http", "https", "git+http", "git+https", "ws", "wss"})
"""Schemes of addresses in which the part before the @ is no name of a user."""

_DATABASES = ("redis", "postgres", "mysql", "mariadb", "mongodb", "amqp", "mssql")
"""How schemes begin whose addresses have no @ in a path."""

_CURL = r"-[A-Za-z]*[uU]|--user|--proxy-user"
_CURL_COOKIE = ("-b", "--cookie")
_LOGIN = ("-p", "--password")
_LOGIN_PROGRAMS = frozenset({"docker", "podman", "nerdctl", "buildah", "skopeo", "helm", "oras"})
_CURL_LINE = r"(?<![\w.-])curl(?=\s)[^\n]*"
_CURL_USER = (
    r"(\s(?:-[A-Za-z]*[uU]|--user|--proxy-user)(?:\s*|=)[\"']?[^\s\"':]*:)(?!\d+\b)([^\s\"']+)"
)
_LOGIN_COMMAND = (
    rf"(?<![\w.-])(?:{'|'.join(sorted(_LOGIN_PROGRAMS))})(?=\s)"
    r"[^|;&\n]{0,100}?\slogin(?=\s)[^|;&\n]*"
)
_LOGIN_OPTION = r"(\s(?:-p|--password)(?:\s*|=))(\S+)"


def hidden(text: str, is_secret: IsSecret, *, prose: bool) -> str:
    """Return a text without the values that are secret by their names or forms."""
    if "://" in text:
        text = re.sub(_ADDRESS, _hidden_in_address, text)
    if is_secret("password"):
        text = _hidden_in_programs(text)
    if "=" in text or ":" in text:
        text = _without(text, _ASSIGNED, _ASSIGNED_VALUE, _Assigned(is_secret, prose=prose))
    if "-" in text:
        text = _without(text, _OPTION, _OPTION_VALUE, _Option(is_secret, prose=prose))
    return text


def _without(
    text: str, name: str, value: str, is_hidden: "Callable[[re.Match[str], str], bool]"
) -> str:
    names, values = re.compile(name), re.compile(value)
    kept, kept_to, at = [], 0, 0
    # Only hidden values are skipped: others may contain names, as in --env=TOKEN=x.
    while found := names.search(text, at):
        at = found.end()
        if not (match := values.match(text, at)):
            continue
        if len(match[0]) > _MAX_PROSE_CHARS or is_hidden(found, match[0]):
            kept += [text[kept_to:at], REDACTED]
            kept_to = at = match.end()
    return "".join([*kept, text[kept_to:]])


class _Option:
    """Whether what follows an option is secret."""

    def __init__(self, is_secret: IsSecret, *, prose: bool) -> None:
        self._is_secret = is_secret
        self._prose = prose

    def __call__(self, found: re.Match[str], value: str) -> bool:
        name = found["name"]
        if not self._is_secret(name) or is_harmless(name, value):
            return False
        return not self._prose or _looks_secret(value)


class _Assigned:
    """Whether what follows a name and ``=`` or ``:`` is secret."""

    def __init__(self, is_secret: IsSecret, *, prose: bool) -> None:
        self._is_secret = is_secret
        self._prose = prose

    def __call__(self, found: re.Match[str], value: str) -> bool:
        name = found["name"]
        if not self._is_secret(name) or is_harmless(name, value):
            return False
        if found["sign"] != ":" or found["quote"]:
            return True
        return self._is_hidden_after_colon(found, value)

    def _is_hidden_after_colon(self, found: re.Match[str], value: str) -> bool:
        text, start = found.string, found.start()
        if _is_file(found["name"], self._is_secret) or text[start - 1 : start] in ("/", "\\"):
            return False
        if found["scheme"]:
            return not self._prose or not _is_lower_word(value)
        if not _looks_secret(value) and (self._prose or _goes_on(text, found, value)):
            return False
        if _is_in_sentence(text, start):
            return _is_strong(value)
        return True


def _is_in_sentence(text: str, at: int) -> bool:
    """Return whether there is a word before a place in a text, as in ``Unexpected token:``."""
    if not text[at - 1 : at].isspace():
        return False
    before = text[max(0, at - _MAX_SPACES) : at].rstrip(" \t")[-1:]
    return before.isalnum() or before in ("'", '"', ")", "]")


def _goes_on(text: str, found: re.Match[str], value: str) -> bool:
    """Return whether words follow a value, so that it begins a sentence."""
    if not found["space"] or not _is_prose(value):
        return not any(map(str.isalnum, value)) or _is_number(value)
    end = found.end() + len(value)
    behind = text[end : end + 2]
    return behind[:1] == " " and behind[1:2].isalpha()


def _is_file(name: str, is_secret: IsSecret) -> bool:
    """Return whether a name with a dot is a file's: its last part is no secret name."""
    _, dot, last = name.rpartition(".")
    return bool(dot) and not is_secret(last)


def is_harmless(name: str, value: object) -> bool:
    """Return whether a value is none that a secret name stands for: a count, or a place."""
    folded = folded_name(name)
    text = str(value)
    if re.search(_COUNT, folded) and not isinstance(value, bool) and _is_number(text):
        return True
    if re.search(_PLACE, folded):
        return bool(re.fullmatch(_PATH, _bare(text))) or "/" in text or "." in text
    return folded.endswith("_stdin")


def folded_name(name: str) -> str:
    """Return a name as ``snake_case``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip("-").replace("-", "_")).lower()


def _looks_secret(value: str) -> bool:
    bare = _bare(value)
    is_plain = not any(map(str.isalnum, bare)) or _is_number(bare) or _is_prose(bare)
    return not is_plain and re.fullmatch(_PATH, bare, re.DOTALL) is None


def _is_strong(value: str) -> bool:
    bare = _bare(value)
    mixed = any(map(str.isdigit, bare)) and any(map(str.isalpha, bare))
    return mixed and len(bare) >= _MIN_STRONG_CHARS


def _is_number(value: str) -> bool:
    return re.fullmatch(_NUMBER, _bare(value)) is not None


def _is_prose(value: str) -> bool:
    return re.fullmatch(_PROSE, _bare(value)) is not None


def is_word_after_colon(before: str, value: str) -> bool:
    """Return whether a value that is hidden in a command is not worth to be searched elsewhere."""
    return before.rstrip().endswith(":") and _is_lower_word(value)


def _is_lower_word(value: str) -> bool:
    bare = _bare(value)
    return bare.isalpha() and bare.islower()


def _bare(value: str) -> str:
    """Return a value without quotes, and without the signs that end a sentence."""
    return value.strip("\"'`()[]{}<>").rstrip(".,;:!?…").strip("\"'`()[]{}<>")


# -- addresses and programs ------------------------------------------------------------------------


def _hidden_in_address(match: re.Match[str]) -> str:
    rest = match[1]
    if "@" not in rest:
        return match[0]
    before = match.string[max(0, match.start() - _MAX_SCHEME_CHARS) : match.start()]
    found = re.search(_SCHEME_BEFORE, before)
    scheme = found[0].lower() if found else ""
    end = re.search(r"[/?#]", rest)
    authority = rest[: end.start()] if end else rest
    if "@" in authority:
        user, _, host = authority.rpartition("@")
        name, colon, _ = user.partition(":")
        behind = f"{host}{rest[len(authority) :]}"
        if colon:
            return f"://{name}:{REDACTED}@{behind}"
        return f"://{REDACTED}@{behind}" if scheme in _WEB and user else match[0]
    name, colon, port = authority.partition(":")
    if not colon or (port.isdigit() and not scheme.startswith(_DATABASES)):
        return match[0]
    return f"://{name}:{REDACTED}@{rest.rpartition('@')[2]}"  # a password with a / in it


def _hidden_in_programs(text: str) -> str:
    if "ookie" in text or "OOKIE" in text:
        text = re.sub(_COOKIE, rf"\1{REDACTED}", text)
    if "curl" in text:
        text = _hidden_in_lines(text, _CURL_LINE, _CURL_USER)
    if "login" in text:
        text = _hidden_in_lines(text, _LOGIN_COMMAND, _LOGIN_OPTION)
    return text


def _hidden_in_lines(text: str, line: str, password: str) -> str:
    return re.sub(line, lambda found: re.sub(password, rf"\1{REDACTED}", found[0]), text)


# -- the words of a command ------------------------------------------------------------------------


def secret_words(words: Sequence[Any], is_secret: IsSecret) -> Iterator[tuple[Any, str, bool]]:
    """Yield each item of a list, the part that may be shown, and whether the rest is secret."""
    word_of = re.compile(_WORD)
    programs: set[str] = set()
    option = ""
    for word in words:
        before: str | None = None
        if isinstance(word, str):
            before = _before_secret(word, option, programs, is_secret, word_of)
            option = word if word.startswith("-") and "=" not in word else ""
            programs.add(word.rpartition("/")[2])
        yield word, before or "", before is not None


def _before_secret(
    word: str, option: str, programs: set[str], is_secret: IsSecret, word_of: re.Pattern[str]
) -> str | None:
    """Return the part of a word before the secret in it; None if there is none."""
    match = word_of.fullmatch(word)
    if match is not None and is_secret(match["name"]):
        return match["before"] if _is_assigned(match, is_secret) else None
    if is_secret("password") and (before := _before_password(word, option, programs)) is not None:
        return before
    if not option or word.startswith("-"):
        return None
    return "" if is_secret(option) and not is_harmless(option, word) else None


def _is_assigned(match: re.Match[str], is_secret: IsSecret) -> bool:
    name, value = match["name"], match["value"]
    if is_harmless(name, value):
        return False
    if match["sign"] == "=":
        return True
    if _is_file(name, is_secret) or not any(map(str.isalnum, value)):
        return False
    first, *others = value.split()
    if others and re.fullmatch(_SCHEMES, first):
        return True
    return not others or _looks_secret(first)


def _before_password(word: str, option: str, programs: set[str]) -> str | None:
    """Return the part before a password that is one by the program it is given to."""
    if cookie := re.fullmatch(r"(?is:((?:set-)?cookie:\s*[^\s=;]+=).+)", word):
        return cookie[1]
    if "curl" in programs:
        if re.fullmatch(_CURL, option) and ":" in word:
            return word.partition(":")[0] + ":"
        if attached := re.fullmatch(r"(-u|--user=|--proxy-user=)([^:]+:)(?s:.+)", word):
            return attached[1] + attached[2]
        if option in _CURL_COOKIE and "=" in word:
            return word.partition("=")[0] + "="
    if "login" in programs and programs & _LOGIN_PROGRAMS:
        return _before_login_password(word, option)
    return None


def _before_login_password(word: str, option: str) -> str | None:
    if option in _LOGIN and not word.startswith("-"):
        return ""
    return "-p" if re.fullmatch(r"-p(?s:.+)", word) else None
