"""docs/library.md and the public face of `JobQueue` are the same."""

import re

from jobq import JobQueue
from tests.support.paths import ROOT

PAGE = (ROOT / "docs/library.md").read_text("utf-8")
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
CODE += re.findall(r"(?<!`)`([^`\n]+)`(?!`)", PAGE)

OF_OTHERS = {"queue", "spool", "path"}
"""The variable itself, and what `queue.logs` has."""


def public_names(queue: JobQueue) -> set[str]:
    return {name for name in (*dir(queue), *vars(queue)) if not name.startswith("_")}


def test_every_public_name_of_a_queue_is_documented(queue: JobQueue) -> None:
    assert not public_names(queue) - set(re.findall(r"\w+", " ".join(CODE)))


def test_what_is_documented_of_a_queue_is_public(queue: JobQueue) -> None:
    named = set(re.findall(r"\b(?:queue|JobQueue)\.([a-z]\w*)", " ".join(CODE)))
    called = {call[1] for text in CODE if (call := re.match(r"([a-z]\w*)\(", text))}
    assert not (named | called) - public_names(queue) - OF_OTHERS
