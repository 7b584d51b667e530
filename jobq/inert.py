"""Text that is safe to show: control characters as visible signs. Pure."""

import re

CONTROL = re.compile(
    # C0 and C1, soft hyphen, direction marks, separators, characters without width or visible form,
    # surrogates, tags
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff"
    "\U0001d173-\U0001d17a\U000e0000-\U000e007f]"
)
"""Characters that a terminal or a page would act on, or that can't be seen."""


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return f"\\x{code:02x}" if code < 0x100 else match[0].encode("unicode_escape").decode()


def visible(text: str) -> str:
    """Return text with signs in place of control characters; keep line ends and tabs."""
    return CONTROL.sub(_visible, text)


def inert(text: str) -> str:
    """Return text on one line that a terminal shows as it is: control characters made visible."""
    return visible(text.replace("\n", "␊").replace("\t", " "))
