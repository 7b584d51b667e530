import json
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobq.cli.rendering import output, table
from jobq.cli.rendering.ansi import AnsiFilter
from jobq.inert import inert
from tests.support.cli_runner import ESCAPE, HOSTILE

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@given(st.text())
def test_inert_text_is_one_line_that_can_do_nothing(text: str) -> None:
    shown = inert(text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cs"}
    assert not set(
        "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c\u200e\u200f"
    ) & set(shown)


def test_inert_text_shows_what_was_there() -> None:
    assert inert("a\x1b[2J\x7f\x9b\u202e\n\tb\r") == "a␛[2J␡\\x9b\\u202e␊ b␍"


def test_inert_output_keeps_colours_and_nothing_else() -> None:
    looks = AnsiFilter(color=True)
    assert looks.shown("\x1b[31mred\x1b[0m\x1b[2J") == "\x1b[31mred\x1b[0m␛[2J"


@pytest.mark.parametrize("look", ["5", "8", "31;8", "6", "10", "21", "38;5;1;8", "58;5;1", "4:9"])
def test_what_hides_text_or_lets_it_blink_is_shown(look: str) -> None:
    assert AnsiFilter(color=True).shown(f"\x1b[{look}mx") == f"␛[{look}mx"


@pytest.mark.parametrize("look", ["", "0", "1;31", "38;5;208", "48;2;1;2;3", "4:3", "01;34;42"])
def test_colours_go_where_they_are_allowed_and_are_left_out_elsewhere(look: str) -> None:
    text = f"\x1b[{look}mx\x1b[0m"
    assert AnsiFilter(color=True).shown(text) == text
    assert AnsiFilter(color=False).shown(text) == "x"


def test_colours_are_reset_at_the_end_and_go_on_with_the_next_text() -> None:
    looks = AnsiFilter(color=True)
    assert looks.shown("a\x1b[1mb\x1b[31m") == "a\x1b[1mb\x1b[31m\x1b[0m"
    assert looks.shown("c") == "\x1b[1m\x1b[31mc\x1b[0m"
    assert looks.shown("\x1b[md") == "\x1b[1m\x1b[31m\x1b[md"
    assert looks.shown("e") == "e"


def test_what_takes_no_room_is_cut_too() -> None:
    assert len(output.cut("e" + "\u0301" * 10_000, 10)) <= 50


@given(st.text(st.characters(codec=None)))
def test_json_is_intact_and_can_do_nothing_to_a_terminal(text: str) -> None:
    printed = output._to_json({"name": text})
    assert json.loads(printed) == {"name": text}
    assert inert(printed) == printed
    printed.encode()


def test_an_array_is_one_document_however_long(capsys: pytest.CaptureFixture[str]) -> None:
    for documents in ([], [{"a": 1}], [{"a": 1}, {"b": HOSTILE}]):
        output.print_json_array(iter(documents))
        printed = capsys.readouterr().out
        assert json.loads(printed) == documents
        assert printed.endswith("]\n")
        assert ESCAPE not in printed


@pytest.mark.parametrize(
    ("ids", "text"),
    [([], ""), ([3], "3"), ([1, 2, 3], "1-3"), ([9, 1, 2, 4, 7, 8], "1-2, 4, 7-9")],
)
def test_runs_of_ids_are_shortened(ids: list[int], text: str) -> None:
    assert output.format_ids(ids) == text


def test_many_runs_of_ids_are_counted() -> None:
    assert output.format_ids(range(1, 1001, 2)).endswith(", 37, 39 and 480 more")
    assert output.format_ids(range(100_000)) == "0-99999"


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 jobs"), (1, "1 job"), (2, "2 jobs"), (1234, "1,234 jobs")]
)
def test_counts(number: int, text: str) -> None:
    assert output.count_of(number) == text


def test_full_times_say_how_far_from_now() -> None:
    assert output.full_time(NOW - timedelta(seconds=185), NOW).endswith("(3m 05s ago)")
    assert output.full_time(NOW + timedelta(seconds=9), NOW).endswith("(in 9.0s)")


@given(
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Cf", "Mn", "Me"])), st.integers(1, 40)
)
def test_a_cut_text_takes_exactly_its_columns(text: str, width: int) -> None:
    assert output.width_of(output.cut(text, width)) == width


def test_wide_characters_are_never_halved() -> None:
    assert output.cut("日本語", 6) == "日本語"
    assert output.cut("日本語", 5) == "日本…"
    assert output.cut("日本語", 4) == "日 …"
    assert output.cut("😀😀", 3) == "😀…"
    assert output.cut("ab", 4) == "ab  "
    assert output.cut("abc", 0) == ""


# -- tables ------------------------------------------------------------------------------------


WIDTHS = {"id": 3, "status": 9, "job": 60, "attempts": 5, "time": 10}


class TestFit:
    def fit(self, room: int, **options: Any) -> dict[str, int]:
        options = {"flexible": ("job",), "optional": ("attempts", "time"), **options}
        return table.fit(WIDTHS, room, options["flexible"], options["optional"])

    def total(self, widths: dict[str, int]) -> int:
        return sum(widths.values()) + 2 * (len(widths) - 1)

    def test_with_room_nothing_is_cut(self) -> None:
        assert self.fit(200) == WIDTHS

    def test_the_flexible_column_gives_way_first(self) -> None:
        assert self.fit(80) == {**WIDTHS, "job": 80 - 3 - 9 - 5 - 10 - 8}

    def test_then_optional_columns_go_in_order(self) -> None:
        assert list(self.fit(45)) == ["id", "status", "job", "time"]
        assert list(self.fit(35)) == ["id", "status", "job"]

    def test_then_all_give_way(self) -> None:
        assert self.total(self.fit(16)) == 16

    @pytest.mark.parametrize("room", range(8, 120))
    def test_a_line_always_fits(self, room: int) -> None:
        assert self.total(self.fit(room)) <= room
        assert self.total(self.fit(room, flexible=(), optional=())) <= max(room, 13)


def test_empty_columns_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    table.print_columns({"id": ["1", "2"], "done": ["", ""], "job": ["日本", "b"]})
    assert capsys.readouterr().out == "id  job\n1   日本\n2   b\n"


def test_fields_without_a_value_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_fields([("a", "1"), ("long", ""), ("bc", "2\n3\x1b")])
    assert capsys.readouterr().out == "a   1\nbc  2\n    3␛\n"
