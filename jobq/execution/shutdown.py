"""Shutdown: how far a supervisor was asked to stop, by signals or by its caller."""

import asyncio
import signal
from collections.abc import Callable
from enum import IntEnum

from jobq.execution.events import EventSender
from jobq.execution.slots import Slots
from jobq.jobs.outcome import StopReason

_CTRL_C = "Ctrl-C"
_SIGNALS = {signal.SIGINT: _CTRL_C, signal.SIGTERM: "SIGTERM"}


class Stop(IntEnum):
    """The steps of stopping a supervisor; each request goes one further."""

    NO = 0
    DRAIN = 1  # start nothing more, and wait for what runs
    RELEASE = 2  # end what runs, and give it back
    KILL = 3  # without grace


class Shutdown:
    """Stops a supervisor, one step further at each request."""

    def __init__(
        self,
        slots: Slots,
        events: EventSender,
        *,
        cancel: bool,
        on_request: Callable[[bool], None],
    ) -> None:
        """``cancel``: end running jobs at the first request, rather than wait and give them back.

        ``on_request`` is called after each request, with True at the first one.
        """
        self._slots = slots
        self._runs = slots.runs
        self._events = events
        self._cancel = cancel
        self._on_request = on_request
        self.step = Stop.NO
        self.interrupted = False
        """True after a Ctrl-C."""

    def listen(self) -> None:
        """Handle signals from here on."""
        loop = asyncio.get_running_loop()
        for number, name in _SIGNALS.items():
            loop.add_signal_handler(number, self._on_signal, name)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
            loop.add_signal_handler(signal.SIGHUP, self._on_hangup)

    def close(self) -> None:
        """Leave signals to their defaults again."""
        for number in (*_SIGNALS, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(number)

    def request(self) -> Stop:
        """Stop, one step further: drain, release, kill."""
        is_first = not self.step
        self.step = Stop(min(self.step + 1, Stop.KILL))
        if self._cancel:
            self.step = max(self.step, Stop.RELEASE)
        self._slots.drain()
        if self.step is Stop.KILL:
            self._runs.grace = 0.0
        if self.step >= Stop.RELEASE:
            self._slots.release(StopReason.CANCELLED if self._cancel else StopReason.SHUTDOWN)
        self._on_request(is_first)
        return self.step

    def _on_signal(self, name: str) -> None:
        running = len(self._runs)
        self.interrupted = self.interrupted or name == _CTRL_C
        jobs = f"{running} running {'job' if running == 1 else 'jobs'}"
        match self.request():
            case Stop.DRAIN if running:
                self._events.message(f"waiting for {jobs}; {name} again gives them back")
            case Stop.RELEASE if running:
                self._events.message(f"stopping {jobs}; {name} again kills them")

    def _on_hangup(self) -> None:
        """Drain, however often this comes: shells and the kernel send it both."""
        if self.step is Stop.NO:
            self.request()
