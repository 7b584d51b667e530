"""The arguments of jobs, as people type them: text, lists, parts of objects, spans of time, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from jobq.errors import ArgsError, UsageError
from jobq.job_types.arguments import args_model, kinds
from jobq.job_types.worker import JobWorker
from jobq.units import parse_duration

if TYPE_CHECKING:
    from pydantic import BaseModel


class _Form(NamedTuple):
    """The forms in which an argument can be typed, besides text."""

    is_json: bool = False  # text can't be a value of it
    is_list: bool = False
    is_object: bool = False
    is_span: bool = False
    model: type[BaseModel] | None = None  # of an object


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.40} is too large for a number")
    return number


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name!r} is given twice")
        found[name] = value
    return found


STRICT_JSON: Mapping[str, Any] = {
    "parse_constant": _refuse_constant,
    "parse_float": _finite,
    "object_pairs_hook": _each_once,
}
"""What a decoder of JSON is given to refuse, with a ValueError, what Python's would take and change:
NaN and infinity, numbers that are as large, and of a name that is given twice all but the last."""


def parse_words(name: str, worker: type[JobWorker] | None, words: Sequence[str]) -> dict[str, Any]:
    """Return ``key=value`` words as arguments; ``key`` may be repeated for a list.

    Raises:
        ArgsError: a word is not ``key=value``, names an argument twice that is no list, or is not
            valid JSON where it must be.
    """
    given: dict[str, list[str]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ArgsError(
                f"{word!r:.80} is not key=value; a command goes after --: `jobq add -- {word:.80} …`"
            )
        given.setdefault(key, []).append(value)
    return _decoded(name, _forms_of(worker), given)


def decode_texts(
    name: str, worker: type[JobWorker] | None, given: Mapping[str, str]
) -> dict[str, Any]:
    """Return arguments from text, as people type them: JSON where text can't be a value.

    Raises:
        ArgsError: it is not valid JSON.
    """
    texts = {key: [text] for key, text in given.items()}
    return _decoded(name, _forms_of(worker), texts)


def _decoded(
    name: str, forms: Mapping[str, _Form], given: Mapping[str, list[str]], above: str = ""
) -> dict[str, Any]:
    """Return arguments, or the parts of the one that is named ``above``, with a dot behind it."""
    decoded: dict[str, Any] = {}
    parts: dict[str, dict[str, list[str]]] = {}
    for key, texts in given.items():
        whole, dot, part = key.partition(".")
        if dot and part and key not in forms and whole in forms and forms[whole].is_object:
            parts.setdefault(whole, {})[part] = texts
        else:
            decoded[key] = _value(f"{name}: argument {above + key!r:.80}", forms.get(key), texts)
    for whole, inside in parts.items():
        if whole in decoded:
            raise ArgsError(
                f"{name}: argument {above + whole!r:.80} is given twice: whole, and in parts"
            )
        model = forms[whole].model
        below = {} if model is None else _forms(model)
        decoded[whole] = _decoded(name, below, inside, f"{above}{whole}.")
    return decoded


def _value(where: str, form: _Form | None, texts: list[str]) -> Any:
    form = form or _Form()
    if form.is_list and len(texts) > 1:
        return [_span(text) if form.is_span else text for text in texts]
    if len(texts) > 1:
        raise ArgsError(f"{where} is given twice")
    (text,) = texts
    if form.is_list and text != "null" and not text.lstrip().startswith(("[", "{")):
        items = text.split(",") if text else []
        return [_span(item) if form.is_span else item for item in items]
    if form.is_span:
        return _span(text)
    if not form.is_json:
        return text
    try:
        return json.loads(text, **STRICT_JSON)
    except (ValueError, RecursionError) as error:
        raise ArgsError(
            f"{where}: expected JSON such as "
            f"""'["a", "b"]', got {text!r:.100}: {error!s:.100}"""
        ) from None


def _span(text: str) -> str | timedelta:
    """Return a span of time as jobq writes it (``10m``); other text, such as ISO 8601, as it is."""
    try:
        return timedelta(seconds=parse_duration(text))
    except (UsageError, OverflowError):
        return text


_SHELL_FORMS = {"argv": _Form(is_json=True), "env": _Form(is_json=True)}


def _forms_of(worker: type[JobWorker] | None) -> Mapping[str, _Form]:
    return _SHELL_FORMS if worker is None else _forms(args_model(worker))


@cache
def _forms(model: type[BaseModel]) -> Mapping[str, _Form]:
    return {
        info.alias or key: _form(info.annotation or Any) for key, info in model.model_fields.items()
    }


def _form(annotation: Any) -> _Form:
    """Return the forms of a type, from what its validation says about an empty text."""
    from pydantic import BaseModel, TypeAdapter, ValidationError

    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    errors: set[str] = set()
    try:
        adapter.validate_python("")
    except ValidationError as error:
        errors = {item["type"] for item in error.errors()}
    types = [kind for kind in kinds(annotation) if isinstance(kind, type)]
    models = [kind for kind in types if issubclass(kind, BaseModel)]
    is_json = bool(errors) and errors <= _NOT_FROM_TEXT
    is_list = is_json and errors <= _LISTS
    return _Form(
        is_json=is_json,
        is_list=is_list,
        is_object=is_json and not is_list,
        is_span=timedelta in types and str not in types,
        model=models[0] if models else None,
    )


_LISTS = {"list_type", "tuple_type", "set_type", "frozen_set_type", "none_required"}
_NOT_FROM_TEXT = _LISTS | {
    "dict_type", "model_type", "model_attributes_type", "dataclass_type", "mapping_type",
    "iterable_type", "sequence_str", "is_instance_of",
}  # fmt: skip
