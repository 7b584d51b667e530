"""Notifications on the desktop, where there is one; where there is none, nothing happens."""

import shutil
import subprocess
from collections.abc import Callable

TAG = "jobq:notify"
"""The tag of a job whose end is shown on the desktop."""

NOTIFY_TIMEOUT_S = 5.0

_APPLE = ("on run {what, how}", "display notification how with title what", "end run")
_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def command(
    title: str, text: str, which: Callable[[str], str | None] = shutil.which
) -> list[str] | None:
    """Return the command that shows a notification here; None where there is none."""
    title, text = _line(title, 100), _line(text, 1000)
    if found := which("notify-send"):
        # The text may have markup, the title has none.
        return [found, "--app-name=jobq", "--", title, text.translate(_MARKUP)]
    if found := which("osascript"):
        lines = [word for line in _APPLE for word in ("-e", line)]
        return [found, *lines, title, text]
    return None


def _line(text: str, max_chars: int) -> str:
    """Return text that a desktop can show: one line, without control characters, not too long."""
    return "".join(char if char.isprintable() else " " for char in text[:max_chars])


def notify(title: str, text: str) -> bool:
    """Show a notification; return whether it was shown. It never fails, and prints nothing."""
    argv = command(title, text)
    if argv is None:
        return False
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=NOTIFY_TIMEOUT_S,
            check=False,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
