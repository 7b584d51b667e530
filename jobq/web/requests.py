"""Strict JSON: no duplicate keys, no NaN, no infinity, no lone surrogates, at most 100 levels."""

import json
import math
from typing import Any, NoReturn

from starlette.requests import Request

from jobq.limits import MAX_DEPTH, is_too_deep
from jobq.web.problems import Problem

MAX_BODY_BYTES = 1 << 20
JSON_TYPE = "application/json"


def malformed(why: str) -> Problem:
    """Return the problem of a body that is not JSON as we take it."""
    return Problem(400, "malformed", f"the body is not valid JSON: {why}")


def parse_json(data: bytes) -> Any:
    """Return the value of a JSON text in UTF-8.

    Raises:
        Problem: it is not one, or is ambiguous: 400.
    """
    try:
        text = data.decode()
        value = _DECODER.decode(text)
        if "\\u" in text:  # the only way to a lone surrogate, which no text file can hold
            json.dumps(value, ensure_ascii=False).encode()
    except Problem:
        raise
    except UnicodeDecodeError:
        raise malformed("it is not UTF-8") from None
    except UnicodeEncodeError:
        raise malformed("it has half of a surrogate pair") from None
    except RecursionError:
        raise malformed(f"nested more than {MAX_DEPTH} deep") from None
    except json.JSONDecodeError as error:
        raise malformed(f"{error.msg} at byte {error.pos}") from None
    except ValueError:
        raise malformed("a number is too long") from None
    if is_too_deep(value):
        raise malformed(f"nested more than {MAX_DEPTH} deep")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise malformed("an object has the same key twice")
    return value


def _refuse_constant(_: str) -> NoReturn:
    raise malformed("NaN and Infinity are not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise malformed("a number is too large")
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
)


class JsonRequest(Request):
    """A request whose body is JSON as `parse_json` reads it."""

    _parsed: Any = None
    _is_parsed = False

    async def json(self) -> Any:
        """Return the body.

        Raises:
            Problem: it is of another type (415), or malformed (400).
        """
        if not self._is_parsed:
            require_json(self)
            self._parsed = parse_json(await self.body())
            self._is_parsed = True
        return self._parsed


def require_json(request: Request) -> None:
    """Refuse a body that is not declared as JSON: a form of another site could send it.

    Raises:
        Problem: 415.
    """
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.replace(" ", "").lower()
    if kind.strip().lower() != JSON_TYPE or charset not in ("", "charset=utf-8"):
        raise Problem(415, "media_type", f"send the body as Content-Type: {JSON_TYPE}")
