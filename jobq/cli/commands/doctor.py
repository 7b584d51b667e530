"""``jobq doctor``: find what is wrong, and repair what is safe to repair."""

from collections import Counter
from typing import Annotated

from jobq.cli.context import Cli
from jobq.cli.parsing.declarations import Context, option
from jobq.cli.parsing.options import AsJson
from jobq.cli.rendering.output import count_of, is_terminal, print_json, styled
from jobq.config.settings import Settings
from jobq.diagnostics.doctor.diagnose import diagnose
from jobq.diagnostics.doctor.finding import Finding, Level
from jobq.errors import ConfigError, JobqError
from jobq.inert import inert

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "red"}


def command(
    ctx: Context,
    full: Annotated[bool, option("--full", help="Read the whole database for damage.")] = False,
    fix: Annotated[bool, option("--fix", help="Repair what is safe to repair.")] = False,
    yes: Annotated[bool, option("--yes", help="With --fix: also delete orphaned logs.")] = False,
    verbose: Annotated[
        bool, option("--verbose", "-v", help="Also show the checks that pass.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Look for damage, leftovers and wrong permissions; exit with 1 if there are any.

    Nothing is written without --fix.

    Examples:
        jobq doctor
        jobq doctor --fix --full
    """
    cli: Cli = ctx.obj
    try:
        settings = cli.settings()
    except ConfigError as error:
        findings, fixed = [Finding(Level.PROBLEM, "config", "", str(error))], []
    else:
        fixed = _repair(settings, yes=yes) if fix else []
        findings = diagnose(settings, full=full)
    if as_json:
        print_json(_document(findings, fixed))
    else:
        _print(findings, fixed, verbose=verbose, color=cli.color)
    return int(any(finding.level is not Level.OK for finding in findings))


def _repair(settings: Settings, *, yes: bool) -> list[str]:
    """Repair what can be repaired. Return a line for each repair."""
    done: list[str] = []
    repaired: set[str] = set()
    for finding in diagnose(settings):
        if finding.fix is None or finding.check in repaired or (finding.destructive and not yes):
            continue
        repaired.add(finding.check)
        try:
            done.append(f"{finding.check}: {finding.fix()}")
        except (JobqError, OSError) as error:
            done.append(f"{finding.check}: could not be repaired: {error}")
    return done


def _print(findings: list[Finding], fixed: list[str], *, verbose: bool, color: bool) -> None:
    for line in fixed:
        print(inert(f"fixed    {line}"))
    for finding in findings:
        if verbose or finding.level is not Level.OK:
            style = _STYLES[finding.level]
            level = styled(f"{finding.level:<8}", style, color=color and is_terminal())
            print(level, inert(_line(finding)))
    counts = Counter(finding.level for finding in findings)
    checked = count_of(len({finding.check for finding in findings}), "check")
    problems, warnings = counts[Level.PROBLEM], counts[Level.WARNING]
    if problems or warnings:
        print(f"{checked}: {count_of(problems, 'problem')}, {count_of(warnings, 'warning')}")
    else:
        print(f"{checked}: all is well")


def _line(finding: Finding) -> str:
    parts = (finding.where, finding.message, finding.remedy)
    return f"{finding.check}: {': '.join(filter(None, parts))}"


def _document(findings: list[Finding], fixed: list[str]) -> dict[str, object]:
    return {
        "findings": [
            {
                "level": finding.level.value,
                "check": finding.check,
                "where": finding.where,
                "message": finding.message,
                "remedy": finding.remedy or None,
                "fixable": finding.fix is not None,
            }
            for finding in findings
        ],
        "fixed": fixed,
    }
