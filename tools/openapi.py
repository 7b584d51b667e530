"""Write docs/openapi.json. Nothing that was in it may go: clients rely on it."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jobq import JobQueue
from jobq.web.app import create_app, openapi_of

FILE = Path(__file__).parent.parent / "docs" / "openapi.json"


def document() -> dict[str, Any]:
    """Return the description of the API as it is now."""
    with TemporaryDirectory() as folder:
        (Path(folder) / "jobq.toml").write_text("")
        with JobQueue.open(Path(folder) / "jobq.toml") as queue:
            found = openapi_of(create_app(queue))
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def promises(document: dict[str, Any]) -> Iterator[str]:
    """Yield what clients rely on: paths, methods, parameters, statuses, and fields of models."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            call = f"{method.upper()} {path}"
            yield call
            yield from (f"{call} answers {status}" for status in operation["responses"])
            for each in operation.get("parameters", ()):
                yield f"{call} takes {each['in']} {each['name']}"
    for name, schema in document["components"]["schemas"].items():
        yield from (f"{name} has {field}" for field in schema.get("properties", {}))


def as_text(document: dict[str, Any]) -> str:
    """Return the document as the file has it."""
    return json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> int:
    """Write the file, unless something would be missing in it; return the exit code."""
    now = document()
    before = json.loads(FILE.read_text("utf-8")) if FILE.exists() else None
    gone = set() if before is None else set(promises(before)) - set(promises(now))
    if gone:
        print("docs/openapi.json: not written: clients may rely on what is gone:", *sorted(gone),
              sep="\n  ", file=sys.stderr)  # fmt: skip
        return 1
    FILE.write_text(as_text(now), "utf-8")
    print(f"{FILE.name}: {len(now['paths'])} paths")
    return 0


if __name__ == "__main__":
    sys.exit(main())
