from pathlib import Path

import pytest

from jobq.errors import ArgsError
from jobq.job_types.registry import Registry, load
from tests.unit.job_types.worker_files import Write, worker


def test_arguments_are_checked_and_stored_as_json(write: Write) -> None:
    tile = load(
        [write("a.py", worker("tile", "path: Path; width: int = 320; tags: list[str] = []")).parent]
    ).get("tile")
    assert tile.parse({"path": Path("/a"), "width": "5"}) == {"path": "/a", "width": 5}
    assert set(tile.schema()["properties"]) == {"path", "width", "tags"}


def test_every_wrong_argument_is_named(write: Write) -> None:
    tile = load([write("a.py", worker("tile", "path: Path; width: int")).parent]).get("tile")
    with pytest.raises(ArgsError, match=r"argument 'path' is missing; argument 'width': .* 'wide'"):
        tile.parse({"width": "wide"})
    with pytest.raises(ArgsError, match="no argument 'heigth': it takes path, width"):
        tile.parse({"path": "/a", "width": 1, "heigth": 2})


@pytest.mark.parametrize("given", ["nan", "inf", "-Infinity", float("nan")])
def test_a_number_that_json_has_no_word_for_is_refused(write: Write, given: object) -> None:
    tile = load([write("a.py", worker("tile", "width: float; all: list[float] = []")).parent])
    with pytest.raises(ArgsError, match="tile: argument 'width': give a finite number"):
        tile.get("tile").parse({"width": given})
    with pytest.raises(ArgsError, match="argument 'all': give a finite number"):
        tile.get("tile").parse({"width": 1, "all": [1, given]})


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_such_a_number_is_refused_in_a_field_of_any_type(write: Write, value: float) -> None:
    tile = load([write("a.py", worker("tile", "d: dict[str, Any] = {}; any: Any = None")).parent])
    for given in ({"d": {"x": value}}, {"d": {"x": [{"y": value}]}}, {"any": value}):
        with pytest.raises(ArgsError, match=r"argument '(d|any)': give a finite number"):
            tile.get("tile").parse(given)


@pytest.mark.parametrize("text", ['{"x": 1e999}', '{"x": NaN}', '{"x": 1, "x": 2}'])
def test_json_that_would_be_changed_is_refused(write: Write, text: str) -> None:
    tile = load([write("a.py", worker("tile", "d: dict[str, Any]")).parent]).get("tile")
    with pytest.raises(ArgsError, match=r"argument 'd': .*(too large|not a JSON|given twice)"):
        tile.parse_words([f"d={text}"])


def test_an_argument_goes_by_its_alias(write: Write) -> None:
    fields = "class_: int = __import__('pydantic').Field(alias='class')"
    tile = load([write("a.py", worker("tile", fields)).parent]).get("tile")
    assert tile.parse({"class": 5}) == {"class": 5}
    with pytest.raises(ArgsError, match="'class' is missing"):
        tile.parse({"class_": 5})


def test_a_type_without_args_takes_none(write: Write) -> None:
    tile = load([write("a.py", worker("tile")).parent]).get("tile")
    assert tile.parse({}) == {}
    with pytest.raises(ArgsError, match="it takes none"):
        tile.parse({"a": 1})


FIELDS = (
    "text: str; number: int; ratio: float; flag: bool; path: Path; either: str | list[str]; "
    "words: list[str]; maybe: list[int] | None; table: dict[str, int]; one: Literal['a', 'b']; "
    "anything: Any"
)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("text=5", "5"), ("text=", ""), ("text=a=b", "a=b"), ('text=["a"]', '["a"]'),
        ("number=5", 5), ("ratio=1.5", 1.5), ("flag=true", True), ("flag=no", False),
        ("path=/a b", "/a b"), ('either=["a"]', '["a"]'), ('words=["a", "b"]', ["a", "b"]),
        ("maybe=[1]", [1]), ("maybe=null", None), ('table={"a": 1}', {"a": 1}), ("one=a", "a"),
        ("anything=5", "5"),
    ],
)  # fmt: skip
def test_words_are_text_first_and_json_where_text_cannot_be(
    write: Write, word: str, value: object
) -> None:
    optional = "; ".join(f"{field} = None" for field in FIELDS.split("; "))
    job_type = load([write("a.py", worker("tile", optional)).parent]).get("tile")
    assert job_type.parse(job_type.parse_words([word])) == {word.partition("=")[0]: value}


def test_the_words_of_a_shell_job_are_decoded_too() -> None:
    shell = Registry().get("shell")
    words = ['argv=["echo", "hi"]', 'env={"A": "1"}', "cwd=/tmp"]
    assert shell.parse_words(words) == {"argv": ["echo", "hi"], "env": {"A": "1"}, "cwd": "/tmp"}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["echo"], "'echo' is not key=value; a command goes after --"),
        (["=5"], "'=5' is not key=value"),
        (["cwd=/a", "cwd=/b"], "argument 'cwd' is given twice"),
        (["argv=echo hi"], "argument 'argv': expected JSON"),
    ],
)
def test_words_that_say_nothing_are_refused(words: list[str], complaint: str) -> None:
    with pytest.raises(ArgsError, match=complaint):
        Registry().get("shell").parse_words(words)


def test_what_is_stored_can_be_read_by_the_model_again(write: Write) -> None:
    fields = (
        "when: __import__('datetime').datetime; span: __import__('datetime').timedelta; "
        "exact: __import__('decimal').Decimal; some: set[int]; data: bytes; pair: tuple[int, str]"
    )
    tile = load([write("a.py", worker("tile", fields)).parent]).get("tile")
    given = {
        "when": "2026-01-01T12:00Z", "span": 90, "exact": "0.10", "some": [1, 2], "data": "ż",
        "pair": [1, "a"],
    }  # fmt: skip
    stored = tile.parse(given)
    assert tile.parse(stored) == stored


RICH = (
    "wait: __import__('datetime').timedelta = None; ports: list[int] = []; words: set[str] = None; "
    "video: 'Video' = None; labels: dict[str, str] = {}; maybe: list[str] | None = None; "
    "waits: list[__import__('datetime').timedelta] = []"
)
VIDEO = (
    "class Video(BaseModel):\n    codec: str = 'vp9'\n    sizes: list[int] = []\n"
    "    keep: __import__('datetime').timedelta = None\n"
)


@pytest.mark.parametrize(
    ("words", "stored"),
    [
        ("wait=10m", {"wait": "PT10M"}),
        ("wait=1h30m", {"wait": "PT1H30M"}),
        ("wait=PT5S", {"wait": "PT5S"}),
        ("ports=80,443", {"ports": [80, 443]}),
        ("ports=80 ports=443", {"ports": [80, 443]}),
        ("ports=80", {"ports": [80]}),
        ("ports=", {"ports": []}),
        ("ports=[80]", {"ports": [80]}),
        ("maybe=a,b", {"maybe": ["a", "b"]}),
        ("maybe=a,b maybe=c", {"maybe": ["a,b", "c"]}),
        ("waits=1s,2m", {"waits": ["PT1S", "PT2M"]}),
        ("video.codec=av1 video.sizes=1,2", {"video": {"codec": "av1", "sizes": [1, 2]}}),
        ("video.keep=1d", {"video": {"keep": "P1D"}}),
        ('video={"codec":"av1"}', {"video": {"codec": "av1"}}),
        ("labels.a=b labels.c.d=e", {"labels": {"a": "b", "c.d": "e"}}),
    ],
)
def test_words_may_be_spans_lists_and_parts(
    write: Write, words: str, stored: dict[str, object]
) -> None:
    rich = load([write("a.py", VIDEO + worker("rich", RICH)).parent]).get("rich")
    assert rich.parse(rich.parse_words(words.split())) == stored


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("wait=soon", "argument 'wait': .*got 'soon'"),
        ("ports=80,http", "argument 'ports.1': .*got 'http'"),
        ("wait=1s wait=2s", "argument 'wait' is given twice"),
        ("video.codec=a video.codec=b", "argument 'video.codec' is given twice"),
        (
            'video={"codec":"a"} video.codec=b',
            "argument 'video' is given twice: whole, and in parts",
        ),
        ('ports=["80"', "argument 'ports': expected JSON"),
        ("wait.codec=5", "no argument 'wait.codec'"),
    ],
)
def test_words_that_are_no_spans_lists_or_parts_are_refused(
    write: Write, words: str, complaint: str
) -> None:
    rich = load([write("a.py", VIDEO + worker("rich", RICH)).parent]).get("rich")
    with pytest.raises(ArgsError, match=complaint):
        rich.parse(rich.parse_words(words.split()))
