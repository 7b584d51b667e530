import io
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobq.errors import UsageError
from jobq.transfer import formats
from jobq.transfer.formats import Row, format_of, read, write


def rows(text: str | bytes, kind: str) -> list[Row]:
    source = text if isinstance(text, bytes) else text.encode()
    return list(read(io.BytesIO(source), kind).rows)


def good(text: str | bytes, kind: str) -> list[tuple[int, dict[str, Any]]]:
    found = rows(text, kind)
    assert [row.problem for row in found] == [None] * len(found)
    return [(row.line, row.values) for row in found]


def problems(text: str | bytes, kind: str) -> list[tuple[int, str]]:
    return [(row.line, row.problem) for row in rows(text, kind) if row.problem]


# -- which format --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("a.jsonl", b"[", "jsonl"),
        ("a.ndjson", b"", "jsonl"),
        ("dir.csv/a.json", b"", "json"),
        ("a.CSV", b"a\tb", "csv"),
        ("a.tsv", b"a,b", "tsv"),
        ("stdin", b'  \n{"a": 1}', "jsonl"),
        ("stdin", b"", "jsonl"),
        ("stdin", b"\xef\xbb\xbf[{", "json"),
        ("a.txt", b"a\tb,c\nd", "tsv"),
        ("a.txt", b"a,b\nc\td", "csv"),
    ],
)
def test_the_format_is_that_of_the_ending_or_of_the_first_bytes(
    name: str, head: bytes, kind: str
) -> None:
    assert format_of(name, head) == kind


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UsageError, match="'xml': give one of jsonl"):
        rows("", "xml")


# -- JSON Lines ----------------------------------------------------------------------------------


def test_json_lines_are_rows_and_empty_lines_are_not() -> None:
    assert good('{"a": 1}\n\n  \n{"b": "ż"}', "jsonl") == [(1, {"a": 1}), (4, {"b": "ż"})]


def test_a_byte_order_mark_is_passed_over() -> None:
    for kind in ("jsonl", "json"):
        assert good(b'\xef\xbb\xbf{"a": 1}', kind) == [(1, {"a": 1})]
    assert good(b"\xef\xbb\xbfa,b\n1,2\n", "csv") == [(2, {"a": "1", "b": "2"})]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"{", "not valid JSON: Expecting property name"),
        (b"[1]", "expected an object"),
        (b"7", "expected an object"),
        (b'{"a": NaN}', "NaN is not a JSON value"),
        (b'{"a": "\xff"}', "not valid UTF-8: byte 8"),
        (b'{"a": 1} {"b": 2}', "not valid JSON: Extra data"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_bad_line_is_reported_and_the_next_one_read(line: bytes, what: str) -> None:
    found = rows(b'{"a": 1}\n' + line + b'\n{"a": 2}\n', "jsonl")
    assert [row.line for row in found] == [1, 2, 3]
    assert [row.values for row in found if not row.problem] == [{"a": 1}, {"a": 2}]
    assert what in (found[1].problem or "")


def test_a_line_without_end_does_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "MAX_ROW_BYTES", 100)
    found = problems(b'{"a": 1}\n{"a": "' + b"x" * 1000, "jsonl")
    assert found == [(2, "a row of more than 100 bytes: the rest of the file was not read")]


# -- JSON ----------------------------------------------------------------------------------------


def test_the_objects_of_an_array_are_rows_on_the_lines_they_begin() -> None:
    text = '\n[\n  {"a": 1},\n  {"a":\n 2}, {"a": [3,\n{}]}\n]\n'
    assert good(text, "json") == [(3, {"a": 1}), (4, {"a": 2}), (5, {"a": [3, {}]})]


def test_objects_may_follow_each_other_without_an_array() -> None:
    assert good('{"a": 1}\n{"a":\n2}', "json") == [(1, {"a": 1}), (2, {"a": 2})]
    assert good("[]", "json") == good("", "json") == good(" \n", "json") == []


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ('[{"a": 1}\n{"a": 2}]', 2, "expected ',' or ']'"),
        ('[{"a": 1},\n]', 2, "expected an object after ','"),
        ('[{"a": 1},\n5]', 2, "expected an object after ','"),
        ('[\n"a"]', 2, "expected an object, got '\"'"),
        ('[{"a": 1},\n{"a": \n nope}]', 3, "Expecting value"),
        ('[{"a": 1},\n{"a": "', 2, "Unterminated string"),
        ('[{"a": 1}', 1, "the array has no end"),
        ('[{"a": 1}]\n{}', 2, "something follows the array"),
        ('{"a": 1}\n]', 2, "expected an object"),
        ("7", 1, "expected an object"),
    ],
)
def test_a_broken_document_is_reported_where_it_breaks(text: str, line: int, what: str) -> None:
    ((found, message),) = problems(text, "json")
    assert found == line
    assert what in message


def test_bytes_that_are_no_text_end_a_document() -> None:
    ((line, what),) = problems(b'[{"a": 1},\n{"a": "\xff"}]', "json")
    assert "not valid UTF-8" in what
    assert line <= 2


@given(st.lists(st.integers(0, 40_000), max_size=12), st.integers(1, 3))
def test_a_document_may_be_larger_than_what_is_read_at_once(sizes: list[int], indent: int) -> None:
    made = [{"n": n, "text": '\\"{},[]é' * (size // 8)} for n, size in enumerate(sizes)]
    text = json.dumps(made, indent=indent, ensure_ascii=False)
    found = good(text, "json")
    assert [values for _, values in found] == made
    starts = [n for n, line in enumerate(text.splitlines(), 1) if line == " " * indent + "{"]
    assert [line for line, _ in found] == starts


def test_an_error_at_the_start_of_a_long_document_is_found_there() -> None:
    text = '[{"a": oops}' + ', {"a": 1}' * 100_000 + "]"
    source = io.BytesIO(text.encode())
    ((found),) = list(read(source, "json").rows)
    assert found.line == 1
    assert source.tell() < 500_000


# -- CSV and TSV ---------------------------------------------------------------------------------


def test_fields_may_hold_separators_and_lines() -> None:
    text = 'a,b\n"1,2","x\ny"\n\n"say ""hi""",2\n'
    assert good(text, "csv") == [
        (2, {"a": "1,2", "b": "x\ny"}),
        (5, {"a": 'say "hi"', "b": "2"}),
    ]


def test_an_empty_field_is_left_out() -> None:
    assert good("a,b,c\n1,,3\n", "csv") == [(2, {"a": "1", "c": "3"})]


def test_tabs_and_semicolons_separate_too() -> None:
    assert good("a\tb\n1,5\t2\n", "tsv") == [(2, {"a": "1,5", "b": "2"})]
    assert good("a;b\n1,5;2\r\n", "csv") == [(2, {"a": "1,5", "b": "2"})]


@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_a_name_that_is_given_twice_is_reported(kind: str) -> None:
    (row,) = read(io.BytesIO(b'{"shell": "a", "args": {"b": 1, "b": 2}}\n'), kind).rows
    assert "'b' is given twice" in str(row.problem)


@pytest.mark.parametrize("begin", ["{", "[", "[{", "\n  {"])
def test_a_document_that_is_no_json_lines_is_one_problem(begin: str) -> None:
    text = f'{begin}\n  "argv": [\n    "true"\n  ]\n}}\n' * 9
    (row,) = read(io.BytesIO(text.encode()), "jsonl").rows
    assert row.line == (2 if begin.startswith("\n") else 1)
    assert "read it as one document with --format json" in str(row.problem)


@pytest.mark.parametrize("quote", ["", '"'])
def test_parts_of_a_line_that_is_too_long_are_no_rows(
    quote: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobq.transfer.formats.MAX_ROW_BYTES", 100)
    long = quote + "x" * 150 + quote
    data = f"shell\na\n{long}\nb\n".encode()
    good, bad = read(io.BytesIO(data), "csv").rows
    assert (good.line, good.values, good.problem) == (2, {"shell": "a"}, None)
    assert bad.line == 3
    assert "more than 100 bytes: the rest of the file was not read" in str(bad.problem)
    (header,) = read(io.BytesIO(f"{long}\nb\n".encode()), "csv").rows
    assert header.line == 1
    assert "the header can't be read: a row of more than 100 bytes" in str(header.problem)


def test_the_header_is_the_first_line_that_is_not_empty() -> None:
    table = read(io.BytesIO(b"\r\n\nshell;key\na;b\n"), "csv")
    assert (table.header_line, table.columns) == (3, ["shell", "key"])
    assert list(table.rows) == [Row(4, {"shell": "a", "key": "b"})]


def test_a_table_knows_its_columns() -> None:
    assert read(io.BytesIO(b" a ,b\n"), "csv").columns == ["a", "b"]
    assert read(io.BytesIO(b""), "csv").columns == []


def test_a_row_of_another_width_is_reported_and_the_next_one_read() -> None:
    found = rows("a,b\n1\n1,2,3\n4,5\n", "csv")
    assert [(row.line, row.problem) for row in found] == [
        (2, "fields: 1, and the header names 2"),
        (3, "fields: 3, and the header names 2"),
        (4, None),
    ]


def test_a_quote_that_is_never_closed_is_reported_where_it_opens() -> None:
    (line, what), *lost = problems('a\n1\n"2\n3\n', "csv")
    assert line == 3
    assert "not valid CSV" in what
    assert lost == [(4, "not read as a row: it is inside the quotes of line 3")]


def numbered(delimiter: str, *stray: int, to: int = 6) -> str:
    made = [delimiter.join(("key", "shell", "name"))]
    made += [
        delimiter.join((f"k{n}", f"echo {n}", '"Rock' if n in stray else "x"))
        for n in range(2, to + 2)
    ]
    return "\n".join(made) + "\n"


@pytest.mark.parametrize(("kind", "delimiter"), [("csv", ","), ("csv", ";"), ("tsv", "\t")])
@pytest.mark.parametrize("stray", [(2,), (4,), (7,), (3, 5), (2, 3, 4), (6, 7)])
def test_a_stray_quote_loses_its_own_row_only(
    kind: str, delimiter: str, stray: tuple[int, ...]
) -> None:
    good_end = 'k8,"echo 8","a\nb"\nk10,echo 10,x\n'.replace(",", delimiter)
    for end in ("", good_end):
        found = rows(numbered(delimiter, *stray) + end, kind)
        lines = {*range(2, 8), *((8, 10) if end else ())}
        assert {row.line for row in found if row.problem is None} == lines - {*stray}
        assert [row.line for row in found if row.problem] == [*stray]
        assert all("is never closed" in (row.problem or "") for row in found if row.problem)


def test_a_quote_at_the_very_end_is_a_problem_of_the_last_row() -> None:
    assert [(row.line, bool(row.problem)) for row in rows('a,b\n1,2\n3,"', "csv")] == [
        (2, False),
        (3, True),
    ]


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ('a\n1\n"2\n3\n4\n', [3, 4, 5]),  # in one column, any line is as wide as the header
        ('a,b\n"echo x\necho "y"",1\n5,6\n', [2, 3]),
        ('a,b\n1,"for x\ndo a,b,c\n\ndone\n', [2, 3, 4, 5]),
        ('a,b\n1,"x\ny",2\n3,4\n', [2, 3]),
    ],
)
def test_lines_that_may_be_the_text_of_a_damaged_row_are_named_and_no_rows(
    text: str, lost: list[int]
) -> None:
    assert [line for line, _ in problems(text, "csv")] == lost


@pytest.mark.parametrize("header", ['a,"b', 'a,"b\n1,2\n3,4', 'a,"b\n1,"x"\n', '"a\n1,2",b\n3,4'])
def test_a_stray_quote_in_the_header_refuses_the_file(header: str) -> None:
    table = read(io.BytesIO(f"{header}\n5,6\n".encode()), "csv")
    assert not table.header_readable
    ((line, what),) = [(row.line, row.problem) for row in table.rows]
    assert line == 1
    assert "the header can't be read" in str(what)


def test_lines_behind_many_stray_quotes_are_not_read_again_and_again() -> None:
    started = time.process_time()
    rows("a,b,c,d\n" + '",x","\n' * 20_000, "csv")
    rows("a,b\n" + '1,"2\n' * 20_000, "csv")
    assert time.process_time() - started < 5


def test_blanks_before_a_field_are_trimmed_as_in_the_header() -> None:
    assert good('key, shell\nb, "echo a, b"\n  c,  echo\n', "csv") == [
        (2, {"key": "b", "shell": "echo a, b"}),
        (3, {"key": "c", "shell": "echo"}),
    ]
    assert good('key,shell\n" b"," echo"\n', "csv") == [(2, {"key": " b", "shell": " echo"})]


def test_bytes_that_are_no_text_stay_visible_in_a_field() -> None:
    ((_, values),) = good(b"a\n\xff\n", "csv")
    assert values == {"a": "\udcff"}  # which no check of text lets pass


# -- writing -------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
VALUE = st.one_of(TEXT, st.integers(), st.booleans(), st.lists(TEXT), st.dictionaries(TEXT, TEXT))


@given(st.lists(st.dictionaries(st.sampled_from("abc"), VALUE)), st.sampled_from(["jsonl", "json"]))
@pytest.mark.slow
def test_objects_that_are_written_are_read_back(made: list[dict[str, Any]], kind: str) -> None:
    file = io.StringIO()
    assert write(made, kind, file, ["a", "b", "c"]) == len(made)
    assert [values for _, values in good(file.getvalue(), kind)] == made


@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), TEXT, min_size=1)),
    st.sampled_from(["csv", "tsv"]),
)
def test_texts_that_are_written_to_a_table_are_read_back(
    made: list[dict[str, Any]], kind: str
) -> None:
    file = io.StringIO()
    assert write(made, kind, file, ["a", "b", "c"]) == len(made)
    assert [values for _, values in good(file.getvalue(), kind)] == made
