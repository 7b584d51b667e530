"""Output of jobs on a terminal: a line that is rewritten shows its last state."""

from collections.abc import Sequence

import pytest

from jobq.cli.rendering.cleaner import ERASE_LINE, NEW_LINE, Cleaner
from tests.support.terminal import Terminal


def fed(cleaner: Cleaner, blocks: Sequence[bytes]) -> str:
    return "".join(cleaner.feed(block) for block in blocks) + cleaner.feed(b"", final=True)


CASES = [
    (b"10%\r50%\r100%\ndone\n", ["100%", "done"]),
    (b"\r10%\r50%\nnext", ["50%", "next"]),
    (b"a\r\nb\r\r\nc\r\n", ["a", "b", "c"]),
    (b"bar 10\r\x1b[Kbar 20\r\x1b[2Kbar 3", ["bar 3"]),
    (b"100 of 100\rok\n", ["ok"]),
    (b"plain\n\nlast\r", ["plain", "", "last"]),
    ("é\rü\n".encode(), ["ü"]),
]


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(("data", "lines"), CASES)
@pytest.mark.parametrize("rewrite", [ERASE_LINE, None])
def test_a_rewritten_line_shows_its_last_state(
    data: bytes, lines: list[str], size: int, rewrite: str | None
) -> None:
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    shown = fed(Cleaner(raw=False, color=True, rewrite=rewrite, width=79), blocks)
    terminal = Terminal(80, 24)
    terminal.feed(shown.replace("\n", "\r\n"))
    assert terminal.lines == lines
    if rewrite is None:
        assert shown.splitlines() == lines


def test_a_state_is_shown_as_it_comes() -> None:
    cleaner = Cleaner(raw=False, color=True, rewrite=ERASE_LINE, width=79)
    assert [cleaner.feed(each) for each in (b"1%", b"\r2%", b"\r3%\r", b"4%")] == [
        "1%", f"{ERASE_LINE}2%", f"{ERASE_LINE}3%", f"{ERASE_LINE}4%",
    ]  # fmt: skip


def test_a_wide_state_does_not_wrap_and_is_whole_in_the_end() -> None:
    cleaner = Cleaner(raw=False, color=True, rewrite=ERASE_LINE, width=9)
    terminal = Terminal(10, 5)
    bar = "=" * 15
    for part in (f"1{bar}", f"\r2{bar}", f"\r3{bar}"):
        terminal.feed(cleaner.feed(part.encode()).replace("\n", "\r\n"))
    assert terminal.lines[-1] == "3=======…"
    terminal.feed(cleaner.feed(b"\n").replace("\n", "\r\n"))
    assert "".join(terminal.lines[-2:]) == f"3{bar}"


def test_a_terminal_that_can_not_draw_gets_a_line_for_each_state() -> None:
    cleaner = Cleaner(raw=False, color=False, rewrite=NEW_LINE)
    assert fed(cleaner, [b"1%", b"\r2%", b"\r3%\n"]) == "1%\n2%\n3%\n"


def test_others_write_below_a_line_that_is_rewritten() -> None:
    cleaner = Cleaner(raw=False, color=False, rewrite=ERASE_LINE)
    assert cleaner.feed(b"plain") == "plain"
    assert cleaner.leave_line() == ""
    assert cleaner.feed(b"\r1%") == f"{ERASE_LINE}1%"
    assert cleaner.leave_line() == "\n"
    assert cleaner.feed(b"\r2%") == "2%"


def test_a_long_line_is_not_held_back_for_ever() -> None:
    assert len(Cleaner(raw=False, color=False).feed(b"x" * 100_000)) == 100_000


def test_raw_keeps_every_byte(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    import sys

    Cleaner(raw=True, color=False).write(b"1%\r2%\r\n", sys.stdout)
    assert capfdbinary.readouterr().out == b"1%\r2%\r\n"
