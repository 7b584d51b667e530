"""The terminal in raw mode: keys go to a command as they are pressed, Ctrl-C included."""

import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_STDIN = 0


@contextmanager
def raw_keyboard() -> Iterator[None]:
    """Switch the terminal at stdin to raw mode, and back at the end."""
    before = termios.tcgetattr(_STDIN)
    tty.setraw(_STDIN, termios.TCSADRAIN)
    try:
        yield
    finally:
        with suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(_STDIN, termios.TCSADRAIN, before)
