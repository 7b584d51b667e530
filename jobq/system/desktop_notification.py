"""Notifications on the desktop, where there is one; where there is none, nothing happens."""

import shutil
import subprocess
from collections.abc import Callable

TAG = "jobq:notify"
"""The tag of a job whose end is to be told on the desktop."""

SECONDS = 5.0
"""How long the desktop may take to show something."""

_APPLE = ("on run {what, how}", "display notification how with title what", "end run")
_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def command(
    title: str, text: str, which: Callable[[str], str | None] = shutil.which
) -> list[str] | None:
    """What shows a notification here; None where nothing does."""
    title, text = _line(title, 100), _line(text, 1000)
    if found := which("notify-send"):
        # The text may have markup, the title has none.
        return [found, "--app-name=jobq", "--", title, text.translate(_MARKUP)]
    if found := which("osascript"):
        lines = [word for line in _APPLE for word in ("-e", line)]
        return [found, *lines, title, text]
    return None


def _line(text: str, most: int) -> str:
    """Text that a desktop can show: on one line, without control characters, and not too long."""
    return "".join(char if char.isprintable() else " " for char in text[:most])


def notify(title: str, text: str) -> bool:
    """Show a notification; whether it was shown. It never fails, and says nothing."""
    argv = command(title, text)
    if argv is None:
        return False
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
