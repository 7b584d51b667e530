"""Text as backends store it: JSON, and strings that are not valid Unicode."""

import json
from typing import Any


def encode(value: Any) -> str:
    """Return a value as JSON, as it is stored."""
    return storable(_ENCODER.encode(value))


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def storable(text: str) -> str:
    r"""Return text with lone surrogates, as in file names of other encodings, written as ``\udce9``."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
