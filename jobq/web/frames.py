"""Server-sent events as they are sent (HTML, section 9.2): the frames of a stream."""

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from jobq.web.problems import Problem

PING = b": ping\n\n"
RETRY = b"retry: 1000\n\n"
"""Milliseconds until a client connects again."""

MAX_ID_CHARS = 4000

_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Characters that end a line in many languages, that terminals obey, or that turn text around."""


def event(name: str, document: Any) -> bytes:
    """Return an event. Its name is a constant, and its data one line of JSON."""
    data = _UNSAFE.sub(_escaped, json.dumps(document, ensure_ascii=False, separators=(",", ":")))
    line = data.encode("utf-8", "backslashreplace")
    return b"event: %s\ndata: %s\n\n" % (name.encode(), line)


def _escaped(char: re.Match[str]) -> str:
    return f"\\u{ord(char[0]):04x}"


def with_id(frame: bytes, positions: Mapping[str, Any]) -> bytes:
    """Return a frame that also says how far all feeds of the stream have come."""
    return b"id: %s\n%s" % (format_id(positions), frame)


def format_id(positions: Mapping[str, Any]) -> bytes:
    """Return the positions of feeds as the id of an event."""
    text = json.dumps(positions, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=")


def parse_id(text: str) -> dict[str, Any]:
    """Return the positions of feeds that a `Last-Event-ID` holds.

    Raises:
        Problem: it is none of ours: 400.
    """
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        positions = json.loads(base64.b64decode(padded, b"-_", validate=True))
    except (ValueError, RecursionError):
        positions = None
    if not isinstance(positions, dict) or len(text) > MAX_ID_CHARS:
        detail = "Last-Event-ID is not an id of this server's events: begin without it"
        raise Problem(400, "event_id_invalid", detail)
    return positions
