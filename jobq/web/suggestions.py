"""Suggestions for the query bar: what may follow in a query at a place. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from jobq.models import JobStatus, JsonObject

MAX_SUGGESTIONS = 20

_FIELDS: Mapping[str, str] = {
    "state": "status of a job",
    "queue": "its queue",
    "type": "its job type",
    "tag": "KEY=VALUE",
    "since": "added since a time, or this long ago",
    "until": "added before a time, or this long ago",
    "ended_since": "ended since a time, or this long ago",
    "ended_before": "ended before a time, or this long ago",
    "ids": "ids and ranges: 1,2,9-14",
    "parent": "waits for a job",
    "added_by": "added by a job",
    "signature": "failed in the same way",
    "name": "text in its name",
    "error": "text in its error",
    "args.": "text in an argument: args.url:example",
}

_SPANS: Mapping[str, str] = {
    "1h": "an hour ago",
    "24h": "a day ago",
    "7d": "a week ago",
    "today": "since midnight",
}

Values = Callable[[], Iterable[str]]


class Suggestion(NamedTuple):
    """A text that may stand in place of the last term before the cursor."""

    insert: str
    hint: str
    kind: str  # field or value
    start: int  # where the text that it replaces begins; it ends at the cursor

    def document(self) -> JsonObject:
        """Return it as answers have it."""
        return {"insert": self.insert, "hint": self.hint, "kind": self.kind, "from": self.start}


def suggest(query: str, at: int, values: Mapping[str, Values]) -> list[Suggestion]:
    """Return what may stand at a place of a query.

    Args:
        query: its text.
        at: the place of the cursor, in characters.
        values: by field, a function that returns the values that are known.
    """
    start = _start_of_term(query[:at])
    term = query[start:at]
    field, colon, value = term.partition(":")
    if not colon:
        return _fields(term, start)
    field = field.lower()
    if field in ("state", "status"):
        return _statuses(field, value, start)
    if field in ("since", "until", "ended_since", "ended_before"):
        known: Mapping[str, str] = _SPANS
    elif field in values:
        known = dict.fromkeys(sorted(set(values[field]())), "")
    else:
        return []
    wanted = value.strip('"').lower()
    found = [(each, hint) for each, hint in known.items() if each.lower().startswith(wanted)]
    return [
        Suggestion(f"{field}:{_quoted(each)} ", hint, "value", start)
        for each, hint in found[:MAX_SUGGESTIONS]
    ]


def _start_of_term(text: str) -> int:
    """Return where the last term of a text begins, of which the rest may be missing."""
    start, quoted, escaped = 0, False, False
    for place, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character.isspace() and not quoted:
            start = place + 1
    return start


def _fields(term: str, start: int) -> list[Suggestion]:
    return [
        Suggestion(name if name.endswith(".") else f"{name}:", hint, "field", start)
        for name, hint in _FIELDS.items()
        if name.startswith(term.lower())
    ]


def _statuses(field: str, value: str, start: int) -> list[Suggestion]:
    """Return the statuses that may follow: several are joined by commas."""
    *given, last = value.lower().split(",")
    head = "".join(f"{status}," for status in given)
    return [
        Suggestion(f"{field}:{head}{status}", "", "value", start)
        for status in JobStatus
        if status.startswith(last) and status not in given
    ]


def _quoted(text: str) -> str:
    if re.fullmatch(r'[^\s"]+', text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
