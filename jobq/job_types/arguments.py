"""The arguments of jobs: checked against a worker's model, and secrets found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from jobq.errors import ArgsError, WorkerLoadError
from jobq.job_types.worker import JobWorker
from jobq.models import JsonObject
from jobq.redaction import SECRETS_TAG, Redaction, Redactor
from jobq.secret_text import REDACTED

if TYPE_CHECKING:
    from pydantic import BaseModel


@cache
def args_model(worker: type[JobWorker]) -> type[BaseModel]:
    """Return the worker's `Args`; without one, a model that takes no arguments.

    Raises:
        WorkerLoadError: `Args` is not a pydantic model.
    """
    from pydantic import BaseModel  # 40 ms

    found = getattr(worker, "Args", None)
    if found is None:

        class Args(BaseModel):
            pass

        return Args
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise WorkerLoadError(f"{worker.__name__}.Args is not a pydantic model")
    return found


# -- checking ----------------------------------------------------------------------------------


def validate(
    name: str, worker: type[JobWorker], args: Mapping[str, Any], redactor: Redactor
) -> JsonObject:
    """Check arguments against the worker's model and return what is stored of them.

    Raises:
        ArgsError: arguments are unknown, missing or mistyped. The message names each, and shows
            no secret values.
    """
    from pydantic import ValidationError

    model = args_model(worker)
    require_known(name, model, args)
    _require_finite(name, args)  # before pydantic makes null of a number in a field of any type
    secrets = secret_tag(worker)
    try:
        checked = model.model_validate(dict(args))
    except ValidationError as error:
        raise ArgsError(f"{name}: {_complaints(error, redactor.of(args, secrets))}") from None
    dumped: JsonObject = checked.model_dump(mode="json", exclude_unset=True, by_alias=True)
    if secrets:
        dumped = _revealed(dumped, checked.model_dump(exclude_unset=True, by_alias=True))
    _require_finite(name, dumped)
    return dumped


def require_known(name: str, model: type[BaseModel], args: Mapping[str, Any]) -> None:
    """Refuse arguments that the model does not have, which pydantic would ignore.

    Raises:
        ArgsError: there is one; the message names it.
    """
    if model.model_config.get("extra") == "allow":
        return
    known = [field.alias or key for key, field in model.model_fields.items()]
    for given in args:
        if given not in known and given not in model.model_fields:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ArgsError(f"{name}: no argument {given!r:.80}: {takes}")


def _require_finite(name: str, args: Mapping[str, Any]) -> None:
    """Refuse NaN and infinity: JSON does not have them, so no reader of ``--json`` takes them."""
    for argument, value in args.items():
        if not _is_finite(value):
            raise ArgsError(f"{name}: argument {argument!r}: give a finite number")


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(map(_is_finite, value.values()))
    return not isinstance(value, list | tuple | set | frozenset) or all(map(_is_finite, value))


def _complaints(error: Any, hide: Redaction) -> str:
    texts = []
    for item in error.errors(include_url=False):
        where = ".".join(map(str, item["loc"]))
        message = item["msg"].removeprefix("Value error, ")
        if not where:  # the arguments contradict each other
            texts.append(message)
        elif item["type"] == "missing":
            texts.append(f"argument {where!r} is missing")
        else:
            is_secret = any(hide.redactor.is_secret(str(part)) for part in item["loc"])
            got = REDACTED if is_secret else f"{hide.value(item['input'])!r:.100}"
            texts.append(f"argument {where!r}: {hide.text(message)}, got {got}")
    return "; ".join(texts)


# -- secrets -----------------------------------------------------------------------------------


@cache
def secret_tag(worker: type[JobWorker]) -> Mapping[str, str]:
    """Return the tag that names a job's secret arguments; empty if it has none."""
    names = _secret_fields(args_model(worker), set())
    return {SECRETS_TAG: ",".join(sorted(names))} if names else {}


def _secret_fields(model: type[BaseModel], seen: set[Any]) -> set[str]:
    """Return the names of fields, at any depth, that hold a `SecretStr` or the like."""
    from pydantic import BaseModel, Secret, SecretBytes, SecretStr

    seen.add(model)
    names: set[str] = set()
    for key, info in model.model_fields.items():
        for kind in kinds(info.annotation):
            kind = getattr(kind, "__origin__", kind)  # noqa: PLW2901 - of Secret[int], Secret
            if not isinstance(kind, type):
                continue
            if issubclass(kind, (Secret, SecretStr, SecretBytes)):
                names.add(info.alias or key)
            elif issubclass(kind, BaseModel) and kind not in seen:
                names |= _secret_fields(kind, seen)
    return names


def kinds(annotation: Any) -> Iterator[Any]:
    """Yield a type, then all that it is made of."""
    yield annotation
    for below in getattr(annotation, "__args__", ()):
        yield from kinds(below)


def _revealed(dumped: Any, plain: Any) -> Any:
    """Return dumped arguments with secrets in place of pydantic's asterisks."""
    from pydantic import BaseModel

    if hasattr(plain, "get_secret_value"):
        value = plain.get_secret_value()
        return value.decode() if isinstance(value, bytes) else value
    if isinstance(dumped, dict) and isinstance(plain, dict):
        pairs = zip(dumped.items(), plain.values(), strict=True)
        return {name: _revealed(below, value) for (name, below), value in pairs}
    if isinstance(dumped, list) and not isinstance(plain, str | bytes | BaseModel):
        return [_revealed(*pair) for pair in zip(dumped, plain, strict=True)]
    return dumped
