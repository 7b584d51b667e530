"""``jobq types``: list the job types."""

import json
import shlex
import shutil
import textwrap
from pathlib import Path
from typing import Annotated, Any

from jobq.cli.context import Cli, complain, project_file
from jobq.cli.parsing.declarations import Argument, Context
from jobq.cli.parsing.options import AsJson
from jobq.cli.rendering.output import is_terminal, print_fields, print_json, styled
from jobq.cli.rendering.table import print_columns
from jobq.config.settings import Settings
from jobq.inert import inert
from jobq.job_types import shell
from jobq.job_types.learned import load_project
from jobq.job_types.registry import JobType, bundled_folder
from jobq.serializers import type_document
from jobq.units import Priority, format_duration

TypeName = Annotated[
    str | None,
    Argument(metavar="[TYPE]", help="Show the arguments of this job type.", completion="types"),
]


def command(ctx: Context, name: TypeName = None, as_json: AsJson = False) -> None:
    """List the job types, or show the arguments of one.

    Examples:
        jobq types
        jobq types cleanup
    """
    cli: Cli = ctx.obj
    settings = cli.settings()
    registry = load_project(settings)
    if name is not None:
        job_type = registry.get(name)
        print_json(_document(job_type)) if as_json else _show(job_type, settings, color=cli.color)
        return
    found = [registry.types[each] for each in sorted(registry.types)]
    if as_json:
        print_json([_document(job_type) for job_type in found])
    else:
        columns = {
            "type": [each.name for each in found],
            "description": [each.description for each in found],
            "source": [_short_source(each) for each in found],
        }
        if not is_terminal():  # last, so that a long description pads no line
            columns["description"] = columns.pop("description")
        print_columns(
            columns,
            color=cli.color,
            flexible=("description", "source"),
            optional=("source",),
        )
    for error in registry.errors:
        complain(str(error))


def _document(job_type: JobType) -> dict[str, Any]:
    return type_document(job_type.name, job_type.description, job_type.source, job_type.schema())


def _source(job_type: JobType) -> str:
    return project_file(Path(job_type.source))


def _short_source(job_type: JobType) -> str:
    """Return the source for the list, where the path of an installed file would only be cut."""
    source = _source(job_type)
    ours = Path(job_type.source).parent == bundled_folder()
    return "bundled" if ours and Path(source).is_absolute() else source


def _timeout(job_type: JobType, settings: Settings) -> str:
    """Return the time limit of an attempt of this type, by the settings."""
    if (seconds := settings.timeouts.types.get(job_type.name)) is not None:
        return format_duration(seconds) if seconds else "none"
    if job_type.worker is None:
        return "none, unless --timeout gives one"
    if (own := getattr(job_type.worker, "timeout", None)) is not None:
        return f"{format_duration(own)}, of its class"
    normal = settings.timeouts.of_priority(Priority.NORMAL)
    return f"{format_duration(normal) if normal else 'none'} at normal priority ([timeouts])"


def _show(job_type: JobType, settings: Settings, *, color: bool) -> None:
    print_fields(
        [
            ("type", job_type.name),
            ("description", job_type.description),
            ("source", _source(job_type)),
            ("timeout", _timeout(job_type, settings)),
            ("example", inert(example(job_type))),
        ]
    )
    arguments = arguments_of(job_type.schema())
    if arguments:
        print()
        print(styled("arguments", "bold", color=color and is_terminal()))
        print_fields(arguments)


def arguments_of(schema: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the name and meaning of each argument, from their JSON Schema."""
    required = schema.get("required", ())
    arguments = []
    for name, about in schema.get("properties", {}).items():
        says = "required" if name in required else _default(about)
        first = f"{kind_of(about, schema)}{says and f', {says}'}"
        arguments.append((name, "\n".join([first, *_wrapped(about.get("description", ""))])))
    return arguments


def _wrapped(text: str) -> list[str]:
    width = shutil.get_terminal_size().columns if is_terminal() else 100
    return textwrap.wrap(text, max(20, width - 24), break_long_words=False)


def _default(about: dict[str, Any]) -> str:
    default = about.get("default")
    return "" if default is None else f"default {json.dumps(default, ensure_ascii=False)}"


def kind_of(about: dict[str, Any], schema: dict[str, Any]) -> str:
    """Return the values that an argument accepts, in a few words."""
    if "$ref" in about:
        about = schema["$defs"][about["$ref"].rsplit("/", 1)[-1]]
    if "enum" in about:
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in about["enum"])
    if "const" in about:
        return json.dumps(about["const"], ensure_ascii=False)
    choices = about.get("anyOf") or about.get("oneOf")
    if choices:
        kinds = [kind_of(each, schema) for each in choices]
        return " | ".join(kind for kind in kinds if kind != "null")
    kind = about.get("format") or about.get("type", "anything")
    if kind == "array":
        return f"list of {kind_of(about.get('items', {}), schema)}"
    return str(kind)


_SAMPLES = {
    "boolean": "true", "object": "{}", "path": "FILE", "uri": "https://example.org/",
    "date": "2026-01-31", "date-time": "2026-01-31T12:00", "time": "12:00", "duration": "10m",
    "uuid": "00000000-0000-4000-8000-000000000000", "email": "ada@example.org",
}  # fmt: skip
"""By format, or type where there is none."""


def example(job_type: JobType) -> str:
    """Return a command line that adds such a job: with its required arguments, or one if none is."""
    if job_type.name == shell.JOB_TYPE:
        return "jobq add -- COMMAND ARG…"
    schema = job_type.schema()
    properties = schema.get("properties", {})
    typical = [name for name, about in properties.items() if about.get("examples")]
    wanted = schema.get("required") or (typical or list(properties))[:1]
    words = [f"{name}={_sample(properties[name], schema)}" for name in wanted]
    return shlex.join(["jobq", "add", job_type.name, *words])


def _sample(about: dict[str, Any], schema: dict[str, Any]) -> str:
    """Return a value of an argument, as it is typed: an example, the default, or one of its type."""
    for value in (*about.get("examples", ()), about.get("default"), about.get("const")):
        if value is not None:
            return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if "$ref" in about:
        return _sample(schema["$defs"][about["$ref"].rsplit("/", 1)[-1]], schema)
    if choices := about.get("anyOf") or about.get("oneOf"):
        return _sample(choices[0], schema)
    return _sample_of_kind(about, schema)


def _sample_of_kind(about: dict[str, Any], schema: dict[str, Any]) -> str:
    kind = about.get("type", "")
    if "enum" in about:
        return str(about["enum"][0])
    if kind == "array":
        return _sample(about.get("items", {}), schema)
    if kind in ("integer", "number"):
        return str(about.get("minimum", about.get("maximum", 1)))
    if kind == "object" and about.get("required"):
        parts = {name: _sample(about["properties"][name], schema) for name in about["required"]}
        return json.dumps(parts)
    return _SAMPLES.get(about.get("format") or kind, "TEXT")
