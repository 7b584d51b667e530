"""Gaps: where the parts of a file are, as it is stored and as readers see it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobq.logs.gaps import Gap, Layout, parse, serialise

MARKER = b"[dropped]\n"


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """A file with a hole in it, or with the marker in its place."""
    start = draw(st.integers(0, 100))
    dropped = draw(st.integers(1, 100))
    tail = draw(st.integers(0, 100))
    gap = Gap(start, start + dropped, start + dropped, MARKER)
    resume = draw(st.sampled_from([gap.resume, start + len(MARKER)]))
    return Layout(resume + tail, gap, resume)


def test_without_a_gap_all_is_where_it_was_written() -> None:
    layout = Layout(10)
    assert (layout.end, layout.held, layout.offset(7)) == (10, 10, 7)
    assert layout.shown_from(7) == layout.shown_to(7) == layout.offset_shown(7) == 7


def test_a_hole_is_not_held_and_a_marker_is() -> None:
    gap = Gap(100, 900, 900, MARKER)
    assert gap.dropped == 800
    hole, compacted = Layout(1000, gap, 900), Layout(100 + len(MARKER) + 100, gap, 110)
    assert hole.end == compacted.end == 1000  # offsets stay what they are
    assert hole.held == 200
    assert compacted.held == 200


@given(layouts(), st.integers(0, 300))
def test_what_is_shown_at_an_offset_is_found_by_it_again(layout: Layout, offset: int) -> None:
    assert layout.gap is not None
    offset = min(offset, layout.end)
    place = layout.shown_from(offset)
    assert 0 <= place <= layout.shown_to(layout.end)
    found = layout.offset_shown(place)
    is_dropped = layout.gap.start < offset < layout.gap.end
    assert found == (layout.gap.start if is_dropped else offset)


@given(layouts())
def test_readers_see_head_marker_and_tail_one_behind_the_other(layout: Layout) -> None:
    assert layout.gap is not None
    offsets = [layout.offset_shown(place) for place in range(layout.shown_to(layout.end) + 1)]
    assert offsets == sorted(offsets)
    assert offsets[0] == 0
    assert offsets[-1] == layout.end
    assert set(offsets).isdisjoint(range(layout.gap.start + 1, layout.gap.end))


@given(st.dictionaries(st.sampled_from(["stdout.log", "job.log", "a name"]), layouts()))
def test_gaps_are_read_as_they_were_stored(found: dict[str, Layout]) -> None:
    gaps = {name: layout.gap for name, layout in found.items() if layout.gap is not None}
    assert parse(serialise(gaps)) == gaps


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "3", "null", '{"a": 1}', '{"a": [1, 2, 3]}', '{"a": [5, 4, 5, "m"]}',
        '{"a": [5, 6, 4, "m"]}', '{"a": [-1, 6, 4, "m"]}', '{"a": [1, 2, 3, ""]}',
        '{"a": [1.5, 2, 3, "m"]}', '{"a": [true, 2, 3, "m"]}', '{"a": [1, 2, 3, 4]}',
        '{"a": [1, 2, ' + "9" * 30 + ', "m"]}', "[" * 100_000, "\ud800", '{"a": [1, 2, 3, "\\ud800"]}',
    ],
)  # fmt: skip
def test_what_a_job_writes_in_their_place_is_no_gap(text: str) -> None:
    assert parse(text.encode("utf-8", "surrogatepass")) == {}
