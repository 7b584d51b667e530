"""The output of a job with its colours, safe for a terminal."""

import re

from jobq.inert import visible

_STYLE = (
    r"(?:0*(?:[0-4]|7|9|2[2-4]|27|29|3[0-79]|4[0-79]|9[0-7]|10[0-7])|4:[0-5]|[34]8:[25][0-9:]{1,20}"
    r"|[34]8;5;[0-9]{1,3}|[34]8;2(?:;[0-9]{1,3}){3})?"
)
_SGR = re.compile(rf"\x1b\[{_STYLE}(?:;{_STYLE}){{0,15}}m")
"""Colours and text styles, without those that hide text or let it blink."""

_PLAIN = "\x1b[0m"
_MAX_STYLES = 16


class AnsiFilter:
    """A filter for the output of a job: it keeps colours and makes other control visible."""

    def __init__(self, *, color: bool) -> None:
        """Drop colours too, unless ``color``."""
        self._color = color
        self._styles: list[str] = []  # in effect at the end of the last output

    def shown(self, text: str) -> str:
        """Return output that is safe to print. Colours are reset at its end, and resumed with the next."""
        kept = list(self._styles) if text else []
        at = 0
        for match in _SGR.finditer(text):
            kept.append(visible(text[at : match.start()]))
            if self._color:
                kept.append(match[0])
                self._note(match[0])
            at = match.end()
        kept.append(visible(text[at:]))
        if text and self._styles:
            kept.append(_PLAIN)
        return "".join(kept)

    def _note(self, style: str) -> None:
        if style in (_PLAIN, "\x1b[m"):
            self._styles.clear()
        else:
            self._styles = [*self._styles, style][-_MAX_STYLES:]
