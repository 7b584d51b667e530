"""What a job writes, with the colours that it writes it in."""

import re

from jobq.cli.rendering.output import visible

_LOOK = (
    r"(?:0*(?:[0-4]|7|9|2[2-4]|27|29|3[0-79]|4[0-79]|9[0-7]|10[0-7])|4:[0-5]|[34]8:[25][0-9:]{1,20}"
    r"|[34]8;5;[0-9]{1,3}|[34]8;2(?:;[0-9]{1,3}){3})?"
)
_SGR = re.compile(rf"\x1b\[{_LOOK}(?:;{_LOOK}){{0,15}}m")
"""Colours and the like. What hides text or lets it blink is not among them."""

_PLAIN = "\x1b[0m"
_MOST_LOOKS = 16


class AnsiFilter:
    """Makes a job's output such that it can do nothing to a terminal but colour its own text."""

    def __init__(self, *, color: bool) -> None:
        """Without ``color``, what would colour it is left out."""
        self._color = color
        self._looks: list[str] = []  # that hold at the end of what was shown so far

    def shown(self, text: str) -> str:
        """Output as it may be shown; its colours are reset at its end, and go on with the next."""
        kept = list(self._looks) if text else []
        at = 0
        for match in _SGR.finditer(text):
            kept.append(visible(text[at : match.start()]))
            if self._color:
                kept.append(match[0])
                self._note(match[0])
            at = match.end()
        kept.append(visible(text[at:]))
        if text and self._looks:
            kept.append(_PLAIN)
        return "".join(kept)

    def _note(self, look: str) -> None:
        if look in (_PLAIN, "\x1b[m"):
            self._looks.clear()
        else:
            self._looks = [*self._looks, look][-_MOST_LOOKS:]
