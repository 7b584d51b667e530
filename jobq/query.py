r"""The query language: a selection of jobs as one line of text, and back. Pure.

::

    state:failed,retrying queue:gpu tag:batch=7 since:2h args.url:example error:3fa9c1 words

Words are searched in all that is shown of a job, literally and whatever their case. A value with
spaces, and a word with a colon, stand in double quotes, in which ``\"`` and ``\\`` are a quote and
a backslash. All conditions have to hold.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from jobq.errors import UsageError
from jobq.jobs.spec import parse_statuses
from jobq.models import JobFilter, TextSearch
from jobq.units import format_moment, parse_since

MAX_IDS = 1000
"""Ids that a query names, ranges written out."""

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_TERM = re.compile(
    rf"(?:(?P<field>[A-Za-z_]+)(?:\.(?P<path>{_QUOTED}|[^\s\":]+))?:)?"
    rf"(?P<value>{_QUOTED}|[^\s\"]*)(?=\s|\Z)",
    re.DOTALL,
)
_BARE = re.compile(r'[^\s":]+')
_BARE_VALUE = re.compile(r'[^\s"]+')
_MAX_ID_DIGITS = 18
_SIGNATURE = re.compile(r"[0-9A-Fa-f]{8}")


class Term(NamedTuple):
    """A condition of a query, and the text that it was read from."""

    source: str
    field: str | None  # None: a word
    path: str  # of an argument
    value: str


def terms(text: str) -> Iterator[Term]:
    """Yield the conditions of a query.

    Raises:
        UsageError: a quote is not closed, or stands in the middle of a word.
    """
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        match = _TERM.match(text, at)
        if match is None:
            word = text[at:].split(maxsplit=1)[0]
            raise UsageError(f'{word!r:.80}: a quote (") begins a value and ends it')
        at = match.end()
        field = match["field"]
        path, value = _unquoted(match["path"] or ""), _unquoted(match["value"])
        yield Term(match[0], field and field.lower(), path, value)


def parse_query(text: str, now: datetime) -> JobFilter:
    """Return the filter that a query stands for; times such as ``2h`` count back from now.

    Raises:
        UsageError: a condition is wrong; the message names it.
    """
    fields: dict[str, Any] = {}
    texts: dict[str, list[Any]] = {}
    tags: dict[str, str] = {}
    for term in terms(text):
        if term.field is not None and not term.value:
            raise UsageError(f"{term.source!r:.80}: a value is missing behind the colon")
        if term.field == "tag":
            key, value = _parse_tag(term)
            if tags.setdefault(key, value) != value:
                raise UsageError(f"{term.source!r:.80}: tag {key!r} is given twice")
        elif term.field in _TEXTS:
            if bool(term.path) is not (term.field == "args"):
                raise _unknown(term)
            found = (term.path, term.value) if term.path else term.value
            texts.setdefault(_TEXTS[term.field], []).append(found)
        else:
            name, parse = _field_of(term)
            if name in fields:
                raise UsageError(f"{term.source!r:.80}: {term.field} is given twice")
            try:
                fields[name] = parse(term.value, now)
            except UsageError as error:
                raise UsageError(f"{term.source!r:.80}: {error}") from None
    search = TextSearch(**{name: tuple(found) for name, found in texts.items()})
    return JobFilter(**fields, tags=tags, text=search if texts else None)


def format_query(jobs: JobFilter) -> str:
    """Return the query that stands for a filter.

    Raises:
        ValueError: no query does: it selects nothing, by a pattern, or from one id on.
    """
    if jobs.after_id is not None or jobs.before_id is not None:
        raise ValueError("a query has no positions")
    if jobs.text is not None and jobs.text.name_patterns:
        raise ValueError("a query has no patterns")
    found = []
    for field, (name, _) in _FIELDS.items():
        value = getattr(jobs, name)
        if value is not None:
            found.append(f"{field}:{_quoted(_text_of(value), _BARE_VALUE)}")
    found += [f"tag:{_quoted(f'{key}={value}', _BARE_VALUE)}" for key, value in jobs.tags.items()]
    if jobs.text is not None:
        for field in ("name", "error"):
            values = getattr(jobs.text, field)
            found += [f"{field}:{_quoted(value, _BARE_VALUE)}" for value in values]
        for path, value in jobs.text.args:
            found.append(f"args.{_quoted(path, _BARE)}:{_quoted(value, _BARE_VALUE)}")
        found += [_quoted(word, _BARE) for word in jobs.text.words]
    return " ".join(found)


def _field_of(term: Term) -> tuple[str, Callable[[str, datetime], Any]]:
    if term.path or (term.field not in _FIELDS and term.field not in _OTHER_NAMES):
        raise _unknown(term)
    return _FIELDS[_OTHER_NAMES.get(term.field or "", term.field or "")]


def _unknown(term: Term) -> UsageError:
    known = ", ".join([*_FIELDS, "tag", "name", "error", "args.NAME"])
    return UsageError(
        f"{term.source!r:.80}: no such condition: known are {known}; "
        "to search for the text, put it in double quotes"
    )


def _parse_tag(term: Term) -> tuple[str, str]:
    key, equals, value = term.value.partition("=")
    if term.path or not key or not equals:
        raise UsageError(f"{term.source!r:.80}: expected tag:KEY=VALUE")
    return key, value


def _parse_ids(text: str, _: datetime) -> tuple[int, ...]:
    ids: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = part.partition("-")
        start = _parse_id(first)
        end = _parse_id(last) if dash else start
        if len(ids) + end - start >= MAX_IDS:
            raise UsageError(f"more than {MAX_IDS:,} ids")
        ids.update(dict.fromkeys(range(start, end + 1)))
    return tuple(ids)


def _parse_id(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= _MAX_ID_DIGITS:
        return int(text)
    raise UsageError(f"{text!r:.80} is not a job id")


def _parse_signature(text: str) -> str:
    if _SIGNATURE.fullmatch(text):
        return text.lower()
    raise UsageError(f"{text!r:.80} is not a signature: `jobq triage` lists them")


_FIELDS: Mapping[str, tuple[str, Callable[[str, datetime], Any]]] = {
    "state": ("statuses", lambda text, _: parse_statuses(text.lower().split(","))),
    "queue": ("queue", lambda text, _: text),
    "type": ("type", lambda text, _: text),
    "since": ("since", parse_since),
    "until": ("until", parse_since),
    "ended_since": ("ended_since", parse_since),
    "ended_before": ("finished_before", parse_since),
    "ids": ("ids", _parse_ids),
    "parent": ("parent", lambda text, _: _parse_id(text)),
    "added_by": ("added_by", lambda text, _: _parse_id(text)),
    "signature": ("signature", lambda text, _: _parse_signature(text)),
}
"""Conditions that are given once: the field of `JobFilter`, and what reads the value."""

_OTHER_NAMES = {"status": "state", "id": "ids"}

_TEXTS = {None: "words", "name": "name", "error": "error", "args": "args"}
"""Conditions on text: the field of `TextSearch`."""


def _text_of(value: Any) -> str:
    if isinstance(value, datetime):
        return format_moment(value)
    if isinstance(value, frozenset | tuple):
        if not value:
            raise ValueError("a query that selects nothing")
        return ",".join(map(str, sorted(value) if isinstance(value, frozenset) else value))
    return str(value)


def _quoted(text: str, bare: re.Pattern[str]) -> str:
    if bare.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
