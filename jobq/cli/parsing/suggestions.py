"""Suggestions for words that are not known: verbs and job types."""

import shlex
import shutil
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from jobq.cli.command_table import SYNONYMS, VERBS

OTHER_NAMES = {
    "kill": "cancel",
    "stop": "cancel",
    "abort": "cancel",
    "remove": "delete",
    "del": "delete",
    "clean": "prune",
    "clear": "prune",
    "submit": "add",
    "enqueue": "add",
    "push": "add",
    "new": "add",
    "exec": "run",
    "start": "up",
    "worker": "work",
    "info": "show",
    "inspect": "show",
    "why": "explain",
    "restart": "retry",
    "rerun": "retry",
    "requeue": "retry",
    "queues": "queue",
    "pause": "queue pause",
    "resume": "queue resume",
    "cron": "schedule",
    "load": "import",
    "dump": "export",
    "setup": "init",
    "daemon": "up",
    "follow": "tail",
    "watch": "list --watch",
    "top": "list --watch",
    "check": "verify",
}
"""Words that other tools have for a verb: they are suggested, and not taken for it."""

OTHER_OPTIONS = {"--limit": "--max-concurrent", "--concurrency": "--max-concurrent"}
"""Options that other tools have, and those of a verb that are meant."""


def unknown_option(option: str, known: Sequence[str]) -> str:
    """Return the message about an option that a verb does not have."""
    meant = OTHER_OPTIONS.get(option)
    if meant not in known:
        meant = closest(option, [name for name in known if name.startswith("--")])
    what = f"no option {option:.80}"
    return what if meant is None else f"{what}: did you mean {meant}?"


def unknown_verb(words: Sequence[str]) -> str:
    """Return the message about a line that begins with no verb."""
    verb = words[0]
    what = f"no verb {verb!r:.80}"
    if (meant := OTHER_NAMES.get(verb) or closest(verb, (*VERBS, *SYNONYMS))) is not None:
        return f"{what}: did you mean `jobq {meant}`?"
    if shutil.which(verb) is not None:
        return f"{what}: to run a command: {shlex.join(['jobq', 'add', '--', *words])}"
    return f"{what}: see `jobq help`"


def unknown_sub_verb(path: str, word: str, known: Sequence[str]) -> str:
    """Return the message about a word that is no verb of a group, such as `jobq queue`."""
    if (meant := closest(word, known)) is not None:
        return f"no verb {word!r:.80} of `{path}`: did you mean `{path} {meant}`?"
    return f"no verb {word!r:.80} of `{path}`: give one of {', '.join(known)}"


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that a word is most like; None if none is like it."""
    return next(iter(get_close_matches(word, known, n=1, cutoff=0.6)), None)
