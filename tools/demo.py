"""A dozen real jobs, from ``jobq init`` to the dead letter queue. Also a smoke test.

``make demo``, or ``python -m tools.demo [DIR]``: the project is made in DIR, which must be empty or
not there yet, or else in a new temporary directory. It is kept, to look around in. The exit code
is 1 if any job did not end as it must.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.media import make_clip

JOBQ = str(Path(sys.executable).with_name("jobq"))
DEADLINE = 60.0  # seconds
BEAT = 0.05

SETTINGS = """\
[retry]
base = 0.5    # seconds before the first retry, so that the demo is quick
jitter = 0

[lease]
grace = "2s"
"""

THUMBNAILS = '''\
"""Thumbnails of a clip, made with PyAV."""

from pathlib import Path

import av
from pydantic import BaseModel, Field

from jobq import JobContext, JobWorker, Permanent


class Thumbnails(JobWorker):
    """Save still pictures of a clip, evenly spread over it."""

    job_type = "thumbnails"

    class Args(BaseModel):
        clip: Path
        count: int = Field(default=4, ge=1)
        width: int = Field(default=160, ge=16)

    def run(self, args: Args, job: JobContext) -> list[str]:
        with av.open(args.clip) as container:
            if not container.streams.video:
                raise Permanent(f"{args.clip}: no picture in it")
            seconds = container.duration / av.time_base
            saved: list[str] = []
            for frame in container.decode(video=0):
                job.progress(frame.time, seconds, "decoding")
                if frame.time >= seconds * len(saved) / args.count:
                    target = job.artifacts / f"{args.clip.stem}-{len(saved) + 1}.png"
                    save(frame, args.width, target)
                    job.log.info("saved %s, at %.1f s", target.name, frame.time)
                    saved.append(str(target))
        return saved


def save(frame: av.VideoFrame, width: int, target: Path) -> None:
    height = frame.height * width // frame.width
    with av.open(target, "w", format="image2", options={"update": "1"}) as picture:
        stream = picture.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
        picture.mux(stream.encode(frame.reformat(width, height, "rgb24")))
        picture.mux(stream.encode(None))
'''

REPORT = 'grep -hE "^  .(path|duration|sha256).:" library/*.json | tee report.txt'
FLAKY = 'echo "try $JOBQ_ATTEMPT"; test "$JOBQ_ATTEMPT" -gt 1'
BROKEN = 'echo "try $JOBQ_ATTEMPT: no route to the printer" >&2; exit 3'
ENDLESS = 'while :; do n=$((n+1)); echo "$n/100 encoding" > "$JOBQ_PROGRESS"; sleep 0.1; done'


@dataclass(frozen=True, slots=True)
class Added:
    """A job, and how it must end."""

    name: str
    status: str
    attempts: int


class Demo:
    """A project of its own, and the real command in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.added: dict[int, Added] = {}
        self._environ = {k: v for k, v in os.environ.items() if not k.startswith("JOBQ_")}

    def show(self, *words: str) -> None:
        """Run a command as a user would, with its output on the terminal."""
        say(words)
        subprocess.run([JOBQ, *words], cwd=self.root, env=self._environ, check=True)

    def read(self, *words: str) -> str:
        """Return what a command prints."""
        done = subprocess.run(
            [JOBQ, *words],
            cwd=self.root,
            env=self._environ,
            check=True,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        return done.stdout

    def add(self, name: str, *words: str, status: str = "completed", attempts: int = 1) -> str:
        """Add a job that must end so; its id."""
        command = ("add", "--name", name, *words)
        say(command)
        job_id = self.read(*command).strip()
        print(job_id)
        self.added[int(job_id)] = Added(name, status, attempts)
        return job_id

    def job(self, job_id: str) -> dict[str, Any]:
        """A job as it is now."""
        found: dict[str, Any] = json.loads(self.read("show", job_id, "--json"))
        return found

    @contextmanager
    def work(self) -> Iterator[None]:
        """A supervisor that leaves once nothing is left to do."""
        command = ("work", "-j", "4", "--drain", "--wait-retries")
        say(command)
        with subprocess.Popen([JOBQ, *command], cwd=self.root, env=self._environ) as process:
            try:
                yield
                process.wait(DEADLINE)
            finally:
                process.kill()  # of no effect if it has left
        if process.returncode != 0:
            raise SystemExit(f"jobq work left with {process.returncode}")


def say(words: tuple[str, ...]) -> None:
    """Print a command as one would type it."""
    line = f"$ {shlex.join(['jobq', *words])}"
    print(f"\n\x1b[1m{line}\x1b[0m" if sys.stdout.isatty() else f"\n{line}", flush=True)


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it has not come true in time.
    """
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {DEADLINE:.0f} s")
        time.sleep(BEAT)


def set_up(demo: Demo) -> None:
    """The project: settings, a worker, two clips, and downloads that were never finished."""
    demo.show("init")
    (demo.root / "jobq.toml").write_text(SETTINGS)
    (demo.root / "workers" / "thumbnails.py").write_text(THUMBNAILS)
    for folder in ("incoming", "library", "downloads"):
        (demo.root / folder).mkdir()
    make_clip(demo.root / "incoming" / "sea.mp4", seconds=60, size=(640, 360))
    make_clip(
        demo.root / "incoming" / "forest.mkv",
        seconds=10,
        size=(320, 240),
        audio=False,
        tags={"title": "In the forest"},
        chapters=[(0, 4, "Morning"), (4, 10, "Noon")],
    )
    yesterday = time.time() - 86_400
    for name, touched in (("film.mp4.part", yesterday), ("going-on.mp4.part", time.time())):
        file = demo.root / "downloads" / name
        file.write_bytes(b"half of it")
        os.utime(file, (touched, touched))


def add_media_jobs(demo: Demo) -> str:
    """Two clips, each copied, read and turned into thumbnails; then a report. The last reader's id."""
    readers = []
    for clip in ("sea.mp4", "forest.mkv"):
        path = str(demo.root / "library" / clip)
        copy = demo.add(f"copy {clip}", "--", "cp", f"incoming/{clip}", "library/")
        readers.append(
            demo.add(
                f"read {clip}", "--after", copy,
                "metadata_extraction", f"path=library/{clip}", "sidecar=true",
            )
        )  # fmt: skip
        demo.add(
            f"thumbnails of {clip}", "--after", copy, "--priority", "high",
            "thumbnails", f"clip={path}", "count=3",
        )  # fmt: skip
    demo.add("report", "--after", ",".join(readers), "--shell", REPORT)
    return readers[-1]


def add_difficult_jobs(demo: Demo) -> tuple[str, str]:
    """Jobs that do not just complete; the ids of the flaky and of the endless one."""
    broken = demo.add(
        "broken", "--retries", "2", "--shell", BROKEN, status="failed", attempts=3
    )  # fmt: skip
    demo.add("tell of broken", "--after-fail", broken, "--", "echo", f"job {broken} has failed")
    flaky = demo.add("flaky", "--retries", "2", "--shell", FLAKY, attempts=2)
    demo.add(
        "slow", "--timeout", "1s", "--retries", "0", "--", "sleep", "60", status="failed"
    )  # fmt: skip
    endless = demo.add("endless", "--shell", ENDLESS, status="cancelled")
    return flaky, endless


def add_other_jobs(demo: Demo) -> str:
    """A clean-up, and a job that starts first although it was added last: its id."""
    downloads = json.dumps([str(demo.root / "downloads")])
    demo.add("clean up", "cleanup", "older_than=1d", f"directories={downloads}", "partial=true")
    return demo.add("urgent", "--priority", "critical", "--", "echo", "added last, started first")


def cancel_while_it_runs(demo: Demo, job_id: str) -> str:
    """Cancel a job once it is well under way; what the command said."""
    wait_until(lambda: (demo.job(job_id)["progress"] or {"done": 0})["done"] >= 20)
    return demo.read("cancel", job_id, "--reason", "seen enough", "--json")


def complaints(demo: Demo, first: str) -> Iterator[str]:
    """Return what is not as it must be."""
    jobs = {job["id"]: job for job in json.loads(demo.read("list", "--json"))}
    for job_id, wanted in demo.added.items():
        job = jobs[job_id]
        if (job["status"], job["attempts"]) != (wanted.status, wanted.attempts):
            yield (
                f"job {job_id} ({wanted.name}): {job['status']} after {job['attempts']} tries, not "
                f"{wanted.status} after {wanted.attempts}: {job['error'] or job['reason']}"
            )
        if job["started_at"] is not None and job["started_at"] < jobs[int(first)]["started_at"]:
            yield f"job {job_id} ({wanted.name}) was started before job {first}"
        if job["type"] == "thumbnails" and len(job["result"] or ()) != 3:
            yield f"job {job_id}: not three thumbnails: {job['result']}"
    for name, there in (("report.txt", True), ("downloads/going-on.mp4.part", True),
                        ("downloads/film.mp4.part", False)):  # fmt: skip
        if (demo.root / name).exists() is not there:
            yield f"{name} is {'not there' if there else 'still there'}"


def main() -> None:
    """Run the demo."""
    given = Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else None
    root = given or Path(tempfile.mkdtemp(prefix="jobq-demo-"))
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise SystemExit(f"{root}: not empty: give a directory that is, or none")
    demo = Demo(root)
    set_up(demo)
    reader = add_media_jobs(demo)
    flaky, endless = add_difficult_jobs(demo)
    urgent = add_other_jobs(demo)
    with demo.work():
        said = cancel_while_it_runs(demo, endless)
    print("\nMeanwhile, from another process:")
    say(("cancel", endless, "--reason", "seen enough", "--json"))
    print(said, end="", flush=True)
    for command in (["list"], ["list", "--status", "failed"], ["show", reader], ["tail", flaky]):
        demo.show(*command)
    wrong = list(complaints(demo, urgent))
    print(f"\nIt is all in {root}. To look around:\n  cd {root} && {JOBQ} list")
    if wrong:
        raise SystemExit("\n".join(["", *wrong]))


if __name__ == "__main__":
    main()
