"""The jobs of a chaos run: what each kind does, and how it must end."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jobq import JobSpec, JobStatus

COMPLETED = frozenset({JobStatus.COMPLETED})
FAILED = frozenset({JobStatus.FAILED})
CANCELLED = frozenset({JobStatus.CANCELLED})

SAY = 'say() { echo "$1 $JOBQ_JOB_ID $JOBQ_ATTEMPT $$" >> effects; }; say start; '
RUNAWAY = "env -i setsid sh -c 'trap \"\" TERM; while :; do sleep 0.1; done' & sleep 600; "


@dataclass(frozen=True)
class Kind:
    """One kind of job: what it does, and how it must end."""

    weight: int
    ends: frozenset[JobStatus]
    script: str = ""  # of a command; or `do`
    do: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def spec(self, rng: random.Random, bytes_: int) -> JobSpec:
        options: dict[str, Any] = dict(self.options)
        if self.ends == COMPLETED:
            options.setdefault("max_retries", 100000)
        options.setdefault("max_retries", 1)
        options.setdefault("retry_base", 0.02)
        if self.do:
            args: dict[str, Any] = {"do": self.do, "seconds": rng.choice([0, 0, 0.05, 0.3])}
            return JobSpec(type="chaos", args=args, **options)
        script = SAY + self.script.replace("BYTES", str(bytes_)) + " say end"
        return JobSpec(args={"shell": script}, **options)


SUCCEED = {"do": "succeed"}
HANGS = {"timeout": 1.0, "max_retries": 0}
KINDS = {
    "succeed": Kind(30, COMPLETED, script="sleep 0.05;"),
    "tick": Kind(8, COMPLETED, script="for n in 1 2 3 4 5 6 7 8; do say tick; sleep 0.1; done;"),
    "background": Kind(4, COMPLETED, script="sleep 600 & sleep 601 & sleep 0.1;"),
    "snooze": Kind(4, COMPLETED, do="snooze"),
    "worker": Kind(30, COMPLETED, do="succeed"),
    "change": Kind(4, COMPLETED, do="change"),
    "soon": Kind(6, COMPLETED, do="succeed", options={"delay": 0.7}),
    "print": Kind(2, COMPLETED, script="head -c BYTES /dev/zero | tr '\\0' x;"),
    "fail": Kind(4, FAILED, script="exit 3;", options={"max_retries": 3}),
    "worker_fail": Kind(4, FAILED, do="fail"),
    "killed": Kind(4, FAILED, script="kill -9 $$;"),
    "segfault": Kind(4, FAILED, do="segfault"),
    "leave": Kind(4, FAILED, do="leave"),
    "worker_killed": Kind(4, FAILED, do="kill"),
    "memory": Kind(3, FAILED, script="ulimit -v 60000; head -c 1G /dev/zero | tail || exit 1;"),
    "worker_memory": Kind(3, FAILED, do="exhaust"),
    "hang": Kind(2, FAILED, script="sleep 600;", options=HANGS),
    "stubborn": Kind(2, FAILED, script="trap '' TERM; while :; do sleep 0.1; done;", options=HANGS),
    "runaway": Kind(2, FAILED, script=RUNAWAY, options=HANGS),
    "worker_hang": Kind(2, FAILED, do="hang", options=HANGS),
    "escape": Kind(2, FAILED, do="escape", options=HANGS),
}
