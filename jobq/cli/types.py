"""``jobq types``: the job types that can be added."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from jobq import shell
from jobq.cli.app import Cli, complain, project_file
from jobq.cli.options import AsJson
from jobq.cli.output import inert, print_columns, print_fields, print_json
from jobq.documents import type_document
from jobq.registry import JobType, load

app = typer.Typer(add_completion=False)

TypeName = Annotated[
    str | None, typer.Argument(metavar="[TYPE]", help="Show the arguments of this one.")
]


@app.command()
def types(ctx: typer.Context, name: TypeName = None, as_json: AsJson = False) -> None:
    """List the job types; or show the arguments of one, and how it is added."""
    cli: Cli = ctx.obj
    registry = load(cli.settings().worker_paths)
    if name is not None:
        job_type = registry.get(name)
        print_json(_document(job_type)) if as_json else _show(job_type, color=cli.color)
        return
    found = [registry.types[each] for each in sorted(registry.types)]
    if as_json:
        print_json([_document(job_type) for job_type in found])
    else:
        print_columns(
            {
                "type": [each.name for each in found],
                "description": [each.description for each in found],
                "source": [_source(each) for each in found],
            },
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


def _show(job_type: JobType, *, color: bool) -> None:
    print_fields(
        [
            ("type", job_type.name),
            ("description", job_type.description),
            ("source", _source(job_type)),
            ("example", inert(example(job_type))),
        ]
    )
    arguments = arguments_of(job_type.schema())
    if arguments:
        print()
        columns = {title: [each[title] for each in arguments] for title in arguments[0]}
        print_columns(columns, color=color, flexible=("type", "default", "description"))


def arguments_of(schema: dict[str, Any]) -> list[dict[str, str]]:
    """Name, type, default and description of each argument, from the JSON Schema of all."""
    required = schema.get("required", ())
    return [
        {
            "argument": name,
            "type": kind_of(about, schema),
            "default": "required" if name in required else _default(about),
            "description": about.get("description", ""),
        }
        for name, about in schema.get("properties", {}).items()
    ]


def _default(about: dict[str, Any]) -> str:
    default = about.get("default")
    return "" if default is None else json.dumps(default, ensure_ascii=False)


def kind_of(about: dict[str, Any], schema: dict[str, Any]) -> str:
    """What an argument may be, in a few words."""
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


_SAMPLES = {"integer": "1", "number": "1.5", "boolean": "true", "array": "[]", "object": "{}"}


def example(job_type: JobType) -> str:
    """A command line that adds such a job, with the arguments that it must have."""
    if job_type.name == shell.JOB_TYPE:
        return "jobq add -- COMMAND ARG…"
    schema = job_type.schema()
    words = [f"{name}={_sample(schema['properties'][name])}" for name in schema.get("required", ())]
    return shlex.join(["jobq", "add", job_type.name, *words])


def _sample(about: dict[str, Any]) -> str:
    if about.get("examples"):
        value = about["examples"][0]
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if "enum" in about:
        return str(about["enum"][0])
    return _SAMPLES.get(about.get("type", ""), "TEXT")
