"""The signal that has a child write down where its worker stands."""

import signal

STACK_SIGNAL: int | None = signal.SIGRTMIN + 8 if hasattr(signal, "SIGRTMIN") else None
"""One that no worker uses for itself; None: this system has no such signals."""
