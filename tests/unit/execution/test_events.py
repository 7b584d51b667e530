"""Events reach the terminal, and harm nothing where there is none."""

from jobq.execution.events import Event, EventSender


def test_events_are_shown_in_order() -> None:
    shown: list[Event] = []
    sender = EventSender(shown.append)
    sender.send(Event("started"))
    sender.message("hello")
    assert shown == [Event("started"), Event("message", text="hello")]


def test_a_terminal_that_is_gone_ends_nothing() -> None:
    def fail(_: Event) -> None:
        raise BrokenPipeError

    EventSender(fail).message("hello")
