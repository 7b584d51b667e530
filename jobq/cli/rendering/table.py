"""Tables: columns of text, cut to fit a terminal."""

from collections.abc import Callable, Collection, Mapping, Sequence

from jobq.cli.rendering.output import cut, cut_middle, is_terminal, styled, width_of
from jobq.inert import inert

Style = str | Callable[[str], str] | None
"""The style of a cell: a name, a function that adds colours to its text, or none."""

MIN_WIDTH = 12
"""Terminal columns that a flexible column keeps before optional ones are left out."""

_GAP = "  "


def print_columns(
    columns: Mapping[str, Sequence[str]],
    *,
    color: bool = False,
    styles: Mapping[str, Sequence[Style]] | None = None,
    flexible: Collection[str] = (),
    optional: Sequence[str] = (),
    middle: Collection[str] = (),
) -> None:
    """Print a table: made to fit on a terminal, with whole lines in a pipe."""
    width = None
    if is_terminal():
        import shutil  # and with it, all that unpacks archives: only where there is a terminal

        width = shutil.get_terminal_size().columns
    for line in table_lines(
        columns,
        width,
        color=color and is_terminal(),
        styles=styles,
        flexible=flexible,
        optional=optional,
        middle=middle,
    ):
        print(line)


def table_lines(
    columns: Mapping[str, Sequence[str]],
    width: int | None,
    *,
    color: bool = False,
    styles: Mapping[str, Sequence[Style]] | None = None,
    flexible: Collection[str] = (),
    optional: Sequence[str] = (),
    min_width: int = MIN_WIDTH,
    middle: Collection[str] = (),
) -> list[str]:
    """Return a line of titles and one for each row; empty columns are left out.

    If the lines are wider than ``width``, the columns named ``flexible`` are cut, down to
    ``min_width``; then the ``optional`` ones are left out, the first one first. Those named
    ``middle`` are cut there, as what differs may be at the end.
    """
    cells = {title: [inert(cell) for cell in column] for title, column in columns.items()}
    widths = {t: max(map(width_of, (t, *column))) for t, column in cells.items() if any(column)}
    if width is not None:
        widths = fit(widths, width, flexible, optional, min_width)
    lines = [[styled(cut(title, size), "bold", color=color) for title, size in widths.items()]]
    for row in range(max(map(len, cells.values()), default=0)):
        line = []
        for title, size in widths.items():
            style = styles[title][row] if styles and title in styles else None
            cell = (cut_middle if title in middle else cut)(cells[title][row], size)
            line.append(_painted(cell, style, color=color))
        lines.append(line)
    return [_GAP.join(line).rstrip() for line in lines]


def _painted(text: str, style: Style, *, color: bool) -> str:
    if callable(style):
        return style(text) if color else text
    return styled(text, style, color=color)


def fit(
    widths: Mapping[str, int],
    room: int,
    flexible: Collection[str],
    optional: Sequence[str],
    min_width: int = MIN_WIDTH,
) -> dict[str, int]:
    """Return the columns to keep, with widths at which a line fits into ``room``."""
    fitted = {title: min(width, room) for title, width in widths.items()}

    def needed(kept: int) -> int:
        taken = [min(w, kept) if t in flexible else w for t, w in fitted.items()]
        return sum(taken) + len(_GAP) * (len(taken) - 1)

    for title in optional:
        if needed(min_width) > room:
            fitted.pop(title, None)
    shrinking = [title for title in fitted if title in flexible]
    while needed(room) > room and max(fitted.values()) > 1:
        if all(fitted[title] <= min_width for title in shrinking):
            shrinking = list(fitted)  # that was not enough: shrink all columns
        fitted[max(shrinking, key=fitted.__getitem__)] -= 1
    return fitted
