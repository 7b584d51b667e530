"""Functions as workers: `@job_type("name")` over a function, whose parameters are the arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_args

from jobq.errors import WorkerLoadError
from jobq.job_types.worker import JobContext, JobWorker

if TYPE_CHECKING:
    from pydantic import BaseModel

_MARK = "__jobq_job_type__"

Function = TypeVar("Function", bound=Callable[..., Any])
Hook = Callable[[], object]


def job_type(
    name: str,
    *,
    max_retries: int | None = None,
    retry_base: float | None = None,
    timeout: float | None = None,
    cooperative: bool = False,
    setup: Hook | None = None,
    teardown: Hook | None = None,
) -> Callable[[Function], Function]:
    """Make a function, plain or async, the worker of a job type; it can still be called as before.

    Its parameters are the job's arguments; one that is annotated as `JobContext` gets the attempt.
    The options are those of `JobWorker`.

    Raises:
        TypeError: what is below is no function, or the name is left out.
    """
    if not isinstance(name, str):
        raise TypeError('@job_type takes the name that jobs are added by: @job_type("thumbnail")')
    attributes: dict[str, Any] = {
        "job_type": name,
        "max_retries": max_retries,
        "retry_base": retry_base,
        "timeout": timeout,
        "cooperative": cooperative,
    }
    hooks = {"setup": setup, "teardown": teardown}
    attributes |= {hook: staticmethod(call) for hook, call in hooks.items() if call is not None}

    def mark(function: Function) -> Function:
        if not inspect.isfunction(function):
            raise TypeError(f"@job_type({name!r}) goes over a function, not over {function!r}")
        setattr(function, _MARK, attributes)
        return function

    return mark


def is_worker_function(found: object) -> bool:
    """Return whether something is a function under `@job_type`."""
    return inspect.isfunction(found) and hasattr(found, _MARK)


@cache
def worker_of(worker: type[JobWorker] | Callable[..., Any]) -> type[JobWorker]:
    """Return a worker class as it is, and for a function under `@job_type` one that calls it.

    Raises:
        WorkerLoadError: it is neither, or a parameter can't be an argument.
    """
    if isinstance(worker, type) and issubclass(worker, JobWorker):
        return worker
    if not is_worker_function(worker):
        raise WorkerLoadError(f"{worker!r} is neither a JobWorker nor a function under @job_type")
    try:
        parameters = inspect.signature(worker, eval_str=True).parameters
    except Exception as error:  # an annotation may be any expression
        raise WorkerLoadError(f"{worker.__name__}(): {type(error).__name__}: {error}") from error
    contexts = {each.name for each in parameters.values() if _is_context(each.annotation)}
    taken = {name: each for name, each in parameters.items() if name not in contexts}
    fields = {name: _field_name(name) for name in taken}
    members = {
        "__doc__": worker.__doc__,
        "__module__": worker.__module__,
        "Args": _model(worker, taken, fields),
        "_function": staticmethod(worker),
        "_fields": fields,
        "_contexts": frozenset(contexts),
        **getattr(worker, _MARK),
    }
    return type(worker.__name__, (_FunctionWorker,), members)


class _FunctionWorker(JobWorker):
    """A worker that calls a function with the arguments, and the context where it wants that."""

    _function: ClassVar[Callable[..., Any]]
    _fields: ClassVar[Mapping[str, str]]  # of the model, by parameter
    _contexts: ClassVar[frozenset[str]]  # parameters that get the context

    def run(self, args: BaseModel, job: JobContext) -> Any:
        given = {name: getattr(args, field) for name, field in self._fields.items()}
        return self._function(**given, **dict.fromkeys(self._contexts, job))


def _is_context(annotation: Any) -> bool:
    return annotation is JobContext or JobContext in get_args(annotation)


def _field_name(parameter: str) -> str:
    """Return the name of a parameter's field: one that a pydantic model can have."""
    from pydantic import BaseModel

    if parameter.startswith("_") or hasattr(BaseModel, parameter):
        return f"argument_{parameter.lstrip('_')}"
    return parameter


def _model(
    function: Callable[..., Any],
    parameters: Mapping[str, inspect.Parameter],
    names: Mapping[str, str],
) -> type[BaseModel]:
    from pydantic import ConfigDict, create_model

    fields = {
        names[each.name]: _field(function, each, has_alias=names[each.name] != each.name)
        for each in parameters.values()
    }
    try:
        model: type[BaseModel] = create_model(
            f"{function.__name__}_arguments",
            __config__=ConfigDict(protected_namespaces=()),
            __module__=function.__module__,
            **fields,
        )
    except Exception as error:  # a type may have a schema of its own
        text = str(error).partition("\n")[0]
        raise WorkerLoadError(
            f"{function.__name__}(): no arguments can be of it: {text}"
        ) from error
    return model


def _field(function: Callable[..., Any], parameter: inspect.Parameter, *, has_alias: bool) -> Any:
    """Return a parameter as the definition of a field: its type, and its default.

    Raises:
        WorkerLoadError: it takes no argument by its name.
    """
    from pydantic import Field

    where = f"{function.__name__}(): parameter {str(parameter).partition(':')[0]!r}"
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        raise WorkerLoadError(f"{where}: arguments of jobs go by name: name them, or take a dict")
    if parameter.annotation is parameter.empty and parameter.name == "job":
        raise WorkerLoadError(f"{where} has no type: write job: JobContext")
    annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
    default = ... if parameter.default is parameter.empty else parameter.default
    return (annotation, Field(default, alias=parameter.name) if has_alias else default)
