"""Text as backends store it: JSON, and what is no Unicode."""

import json
from typing import Any


def encode(value: Any) -> str:
    """JSON as it is stored."""
    return storable(_ENCODER.encode(value))


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def storable(text: str) -> str:
    r"""Text with what is no Unicode, as in a file name of another encoding, as ``\udce9``."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
