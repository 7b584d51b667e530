"""Redaction: secrets are kept out of everything shown, by the names of values. Pure.

A job's row, and what its process gets, are never changed: redacted copies are for people, hooks
and events. A value is secret by its name, and is hidden wherever it appears again. A secret without
a name that says so is not recognised. How text names secrets is in `jobq.secret_text`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import translate
from functools import lru_cache
from typing import Any, NewType, TypeVar

from jobq.models import Attempt, AttemptResult, Job, Progress, Schedule
from jobq.secret_text import REDACTED, hidden, is_harmless, is_word_after_colon, secret_words

SECRETS_TAG = "jobq:secret"
"""The tag of a job that names its secret arguments, separated by commas."""

DEFAULT_PATTERNS = (
    "*password*", "*passwd*", "*passphrase*", "pass", "*_pass", "*_pwd", "*secret*", "*token*",
    "*api_key*", "*apikey*", "*access_key*", "*private_key*", "*credential*", "*authorization*",
)  # fmt: skip

ShownJob = NewType("ShownJob", Job)
"""A job as it may be shown; only redaction creates one."""

_Text = TypeVar("_Text", str, str | None)

_MIN_SECRET_CHARS = 6
"""Of a secret that is searched for in other texts: shorter ones are part of many words."""

_MAX_NAME_CHARS = 256


@lru_cache(maxsize=64)
def _matcher(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(translate(_folded(each)) for each in patterns) or r"(?!)")


def _folded(name: str) -> str:
    return name.strip("-").replace("-", "_").lower()


_SCHEME = r"(?i:bearer|basic|token|apikey)\s+"


@dataclass(frozen=True, slots=True)
class Redactor:
    """The patterns of secret names: shell patterns that ignore case, and take ``-`` for ``_``."""

    patterns: tuple[str, ...] = DEFAULT_PATTERNS

    def is_secret(self, name: str) -> bool:
        """Return whether a value of this name is secret."""
        return _matcher(self.patterns).match(_folded(name[:_MAX_NAME_CHARS])) is not None

    def hides(self, name: str, value: Any) -> bool:
        """Return whether a value of this name is hidden: not if there is nothing secret in it."""
        if value in _HARMLESS or not self.is_secret(name):
            return False
        return _folded(name) in self.patterns or not is_harmless(name, value)

    def of(self, args: Mapping[str, Any], tags: Mapping[str, str]) -> "Redaction":
        """Return the redaction for everything shown about a job with these arguments."""
        named = tuple(name for name in tags.get(SECRETS_TAG, "").split(",") if name)
        redactor = Redactor((*self.patterns, *named)) if named else self
        found = {text for text in _secrets(redactor, args) if len(text) >= _MIN_SECRET_CHARS}
        # Longest first: one may be part of another.
        return Redaction(redactor, tuple(sorted(found, key=lambda text: (-len(text), text))))

    def job(self, job: Job) -> ShownJob:
        """Return a job as it may be shown."""
        return self.of(job.args, job.tags).job(job)

    def attempt(self, attempt: Attempt, job: Job) -> Attempt:
        """Return an attempt as it may be shown."""
        return replace(attempt, error=self.of(job.args, job.tags).text(attempt.error))

    def schedule(self, schedule: Schedule) -> Schedule:
        """Return a schedule as it may be shown."""
        hide = self.of(schedule.args, schedule.tags)
        return replace(
            schedule,
            args=hide.value(schedule.args),
            tags=hide.tags(schedule.tags),
            last_error=hide.text(schedule.last_error),
        )


@dataclass(frozen=True, slots=True)
class Redaction:
    """The secrets of one job, and their replacement in everything shown about it."""

    redactor: Redactor = Redactor()
    secrets: tuple[str, ...] = ()  # longest first

    def text(self, text: _Text, *, prose: bool = True) -> _Text:
        """Return a text without the job's secrets, and without values that it names as secret.

        ``prose``: it is a sentence, such as an error, rather than a command.
        """
        if not text:
            return text
        for secret in self.secrets:
            text = text.replace(secret, REDACTED)
        return hidden(text, self.redactor.is_secret, prose=prose)

    def value(self, value: Any, *, prose: bool = False) -> Any:
        """Return a JSON value without secrets; every value with a secret name is one."""
        match value:
            case str():
                return self.text(value, prose=prose)
            case dict():
                return {name: self._named(name, each, prose) for name, each in value.items()}
            case list() | tuple():
                return [
                    before + REDACTED if is_secret else self.value(word, prose=prose)
                    for word, before, is_secret in secret_words(value, self.redactor.is_secret)
                ]
        return value

    def progress(self, progress: Progress) -> Progress:
        """Return progress without secrets."""
        return progress._replace(message=self.text(progress.message))

    def job(self, job: Job) -> ShownJob:
        """Return the job without secrets."""
        return ShownJob(
            replace(
                job,
                name=self.text(job.name, prose=False),
                args=self.value(job.args),
                tags=self.tags(job.tags),
                unique_key=self.text(job.unique_key, prose=False),
                progress=job.progress and self.progress(job.progress),
                error=self.text(job.error),
                reason=self.text(job.reason),
                result=self.value(job.result, prose=True),
            )
        )

    def ending(self, ending: AttemptResult) -> AttemptResult:
        """Return the result of an attempt without secrets."""
        if ending.error is None and ending.result is None:
            return ending
        return replace(ending, error=self.text(ending.error), result=None)

    def tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Return tags without secrets; the tag that names them stays."""
        return {k: v if k == SECRETS_TAG else self._named(k, v, False) for k, v in tags.items()}

    def _named(self, name: str, value: Any, prose: bool) -> Any:
        if self.redactor.hides(name, value):
            return REDACTED
        return self.value(value, prose=prose)


_HARMLESS: tuple[Any, ...] = (None, True, False, "", [], {})


def _secrets(redactor: Redactor, value: Any) -> Iterator[str]:
    """Yield the secret texts in a JSON value."""
    match value:
        case dict():
            for name, below in value.items():
                named = redactor.hides(name, below)
                yield from _texts(below) if named else _secrets(redactor, below)
        case list():
            for word, before, is_secret in secret_words(value, redactor.is_secret):
                if is_secret:
                    secret = re.sub(_SCHEME, "", word[len(before) :], count=1)
                    if not is_word_after_colon(before, secret):
                        yield secret
                else:
                    yield from _secrets(redactor, word)


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str() | int() | float():
            yield str(value)
        case dict():
            for below in value.values():
                yield from _texts(below)
        case list():
            for below in value:
                yield from _texts(below)


def is_redacted(value: Any) -> bool:
    """Return whether anything in a JSON value was redacted."""
    if isinstance(value, str):
        return REDACTED in value
    if isinstance(value, dict):
        return any(map(is_redacted, value.values()))
    return isinstance(value, list) and any(map(is_redacted, value))
