import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.support.paths import ROOT
from tools import pictures


def text_of(picture: Path) -> str:
    """What can be read in a picture."""
    root = ET.fromstring(picture.read_text("utf-8"))
    words = (element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text"))
    return " ".join(words).replace("\xa0", " ")


def test_a_picture_is_of_a_real_run(tmp_path: Path) -> None:
    pictures.make(tmp_path, ["list"])
    shown = text_of(tmp_path / "list.svg")
    for word in (pictures.FILM, "running", "64%", "jobq list"):
        assert word in shown
    assert list(tmp_path.iterdir()) == [tmp_path / "list.svg"]


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_the_pictures_of_the_docs(name: str) -> None:
    picture = pictures.FOLDER / f"{name}.svg"
    source = picture.read_text("utf-8")
    assert re.findall(r"\w+://[^\"' )]*", source) == ["http://www.w3.org/2000/svg"]
    assert "url(" not in source.replace("url(#", "")
    assert "/tmp" not in source
    assert f"jobq {pictures.PICTURES[name][0]}" in text_of(picture)


def test_every_picture_is_used_and_every_one_used_is_made() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    used = {
        (page.parent / link).resolve()
        for page in pages
        for link in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text("utf-8"))
    }
    plots = {file.resolve() for file in (ROOT / "docs" / "plots").iterdir()}
    assert plots <= used
    made = {(pictures.FOLDER / f"{name}.svg").resolve() for name in pictures.PICTURES}
    assert used - plots == made == {file.resolve() for file in pictures.FOLDER.iterdir()}
