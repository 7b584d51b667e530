"""Failure signatures: failures of one kind get the same short hash. Pure.

A signature is taken from the job's type, the outcome, the program of a command and the shape of the
error: its first line, without what differs from one job to the next. Secrets must be gone before,
so that none is in a hash. Other rules need another `VERSION`, and a letter in front of the hash by
which signatures of both can be told apart until none of the older ones is left.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

from jobq.job_types.shell import JOB_TYPE
from jobq.models import AttemptResult, Job, JobStatus, Outcome
from jobq.redaction import Redaction, Redactor

VERSION = "v1"
HASH_CHARS = 8
MAX_SHAPE_CHARS = 300

_FAILING = frozenset({JobStatus.FAILED, JobStatus.RETRYING})
_INVISIBLE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?")
_BLANK = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")
_START = r"(?<![\w#])"
_EXTENSIONS = (
    " 3gp aac avi bz2 c cc cfg conf cpp csv db doc docx flac flv gif go gz h hpp htm html ini java jpg "
    "jpeg js json jsonl lock log m3u8 m4a m4v md mkv mov mp3 mp4 mpg o ogg opus part pdf png py rs sh "
    "so sql srt svg tar tgz tif tiff toml ts tsv txt vtt wav webm webp xls xlsx xml xz yaml yml zip "
    "zst "
)
_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}"

_RULES: Mapping[str, str] = {
    # First, and only for speed: words that no other rule wants are passed over together.
    "words": (
        r"(?<![\w#/.~@+,=%-])(?:(?!exit|return|err|sig|http|stat|jan|feb|mar|apr|may|ju[nl]|aug|sep"
        r"|oct|nov|dec)[a-z]+[,;]? )+"
    ),
    "quoted": (
        r"(?<![\w#])(?:\"[^\"]*\"|'[^']*'(?!\w)|`[^`']*['`]|\u2018[^\u2019]*\u2019|\u201c[^\u201d]*\u201d)"
    ),
    # Numbers that name a kind of failure stay.
    "kept": (
        r"(?:exit(?:ed)?(?:[ _](?:code|status|with))*|(?:return|error)[ _]?code|errno|signal)"
        r"\W{0,3}-?\d{1,3}(?!\d)"
        r"|(?:http|status|error)[a-z]*(?:/\d\.\d|/\d)?"
        r"(?:[^\w#]+(?:code|status|error|server|client|returned|response|is|was))*"
        r"[^\w#]{1,3}[45]\d\d(?!\w)"
        r"|(?<![\w#.])[45]\d\d(?= (?:client|server|too many|not found|forbidden|unauthorized|bad"
        r"|internal|service|gateway)(?![^ ,;)]))"
        r"|(?<![\w#])error \d{1,3}(?!\d)|^curl: \(\d+\)"
    ),
    "url": r"(?<![\w#])[a-z][a-z0-9+.-]*://(?:[^\s/@\"'<>]*@)?(?P<host>[\w.#-]+)[^\s\"'<>)\]]*",
    "time": (
        rf"{_START}(?:\d{{4}}[-/]\d\d[-/]\d\d(?:[t ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?)?"
        r"|\d\d:\d\d:\d\d(?:[.,]\d+)?)(?:z|\s?[+-]\d\d:?\d\d)?(?!\w)"
        rf"|{_START}(?:\d{{1,2}} {_MONTH}|{_MONTH}\.? \d{{1,2}})(?:,? \d{{4}})?(?!\w)"
    ),
    "hash": (
        rf"{_START}(?:[0-9a-f]{{8}}-(?:[0-9a-f]{{4}}-){{3}}[0-9a-f]{{12}}|0x[0-9a-f]+"
        r"|(?=\d*[a-f])(?=[a-f]*\d)[0-9a-f]{7,})(?!\w)"
        # The id behind the name of a site or a part: [youtube] dQw4w9WgXcQ: …
        r"|(?<=\] )(?-i:(?=[\w-]*(?:\d|[a-z][A-Z]|[A-Z]{2}|_))[\w-]{6,}(?=: ))"
    ),
    "path": (
        r"(?<![\w#/.~-])(?:"
        r"(?:~|\.\.?)?/[^:\"'`]*?\.[a-z]\w{0,4}(?=: )"
        r"|(?:~|\.\.?)?(?:/[\w.@+,=%#-]*)+(?<=[\w#])"
        r"|[\w@+,=%-][\w.@+,=%-]*(?:/[\w.@+,=%#-]+){2,}"
        r"|(?P<file>[\w@+,=%-][\w.@+,=%-]*(?:/[\w.@+,=%#-]+)?\.[a-z]\w{0,4}(?![\w/.#@+,=%-])))"
    ),
    "number": (
        r"(?<![\w.])\d+(?:[.,:x](?!\d*[a-f][0-9a-f]*(?<=[0-9a-f]{7})(?!\w))\d+)*|(?<=[a-z_])\d{4,}"
    ),
}
_TOKEN = re.compile(
    "|".join(f"(?P<{name}>{rule})" for name, rule in _RULES.items()), re.IGNORECASE | re.ASCII
)
_MARKS = {"quoted": "#q", "time": "#t", "hash": "#h", "number": "#"}
_EXTENSION = re.compile(r"\.([A-Za-z]\w{0,4})$", re.ASCII)


def shape_of(error: str | None) -> str:
    """Return the first line of an error with marks for all that differs between jobs of one kind.

    URLs become host and ``/#``, paths ``/#.ext``, hashes ``#h``, times ``#t``, quoted text ``#q``,
    other numbers ``#``. Exit codes, errno, signals and the status of HTTP stay.
    """
    text = (error or "").lstrip().partition("\n")[0]
    if not text.isprintable():
        text = _BLANK.sub(" ", _INVISIBLE.sub("", text))
    text = " ".join(text.split())
    shape = text[:MAX_SHAPE_CHARS].rstrip()
    # Until nothing changes: beside a mark, there may be what is taken for a word of its own now.
    while (marked := _TOKEN.sub(_mark, shape)) != shape:
        shape = marked
    return shape


def _mark(token: re.Match[str]) -> str:
    if token["words"] or token["kept"]:
        return token[0]
    if host := token["host"]:
        return re.sub(r"[\d#][\d#.]*", "#", host).lower().strip(".-") + "/#"
    if token["path"]:
        extension = _EXTENSION.search(token[0])
        if token["file"] and not (extension and f" {extension[1].lower()} " in _EXTENSIONS):
            return token[0]  # a host, a module or the like
        return "/#" + (extension[0] if extension else "")
    return next(mark for name, mark in _MARKS.items() if token[name])


def program_of(args: Mapping[str, Any]) -> str:
    """Return the program that the arguments of a shell job run, "" for other jobs."""
    argv, text = args.get("argv"), args.get("shell")
    words = argv if isinstance(argv, list) else text.split() if isinstance(text, str) else []
    # Not an assignment before the program: its value may be a secret.
    named = (word for word in words[:9] if isinstance(word, str) and "=" not in word)
    return os.path.basename(next(named, ""))[:64]


def signature_of(
    job_type: str, outcome: Outcome | None, program: str, error: str | None, frame: str | None
) -> str:
    """Return the signature of a failure, from texts without secrets.

    ``frame`` is where a worker's own code raised: a file and a function. None: it is not known.
    """
    kind = outcome.value if outcome else ""
    parts = (VERSION, job_type, kind, program, frame or "", shape_of(error).casefold())
    digest = sha256("\n".join(parts).encode("utf-8", "backslashreplace")).hexdigest()
    return digest[:HASH_CHARS]


def signature_of_job(
    job: Job, outcome: Outcome | None, error: str | None, hide: Redaction, frame: str | None = None
) -> str:
    """Return the signature of a job's failure, whose secrets are taken out here."""
    program = hide.text(program_of(job.args), prose=False) if job.type == JOB_TYPE else ""
    return signature_of(job.type, outcome, program, hide.text(error), frame)


def signed(
    result: AttemptResult, job: Job, hide: Redaction | None = None, frame: str | None = None
) -> AttemptResult:
    """Return the end of an attempt with its signature, if it is a failure."""
    if result.status not in _FAILING:
        return result
    hide = hide or Redactor().of(job.args, job.tags)
    signature = signature_of_job(job, result.outcome, result.error, hide, frame)
    return replace(result, signature=signature)
