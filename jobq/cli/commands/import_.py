"""``jobq import``: add jobs from the rows of a file."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from jobq.cli.context import Cli, complain
from jobq.cli.parsing.arguments import piped_in
from jobq.cli.parsing.declarations import Argument, Context, option
from jobq.cli.parsing.options import AsJson, DryRun
from jobq.cli.rendering.output import count_of, is_terminal, note, note_paused, print_json
from jobq.cli.rendering.progress_bar import Bar, bar_of
from jobq.errors import UsageError, WrongState
from jobq.job_reader import READ_BATCH_SIZE
from jobq.jobs.insert import batches
from jobq.jobs.validation import checked_text
from jobq.models import Inserted
from jobq.queue import JobQueue
from jobq.transfer import file_head, formats
from jobq.transfer.formats import FORMATS, Table
from jobq.transfer.importer import Importer

File = Annotated[str, Argument(metavar="FILE|-", help="The file to read; - reads stdin.")]
Format = Annotated[
    str | None,
    option(
        "--format",
        metavar="FORMAT",
        help=f"Read {', '.join(FORMATS)} (default: by the file's ending or beginning).",
    ),
]
SkipInvalid = Annotated[
    bool, option("--skip-invalid", help="Add the valid rows and report the others.")
]
KeyPrefix = Annotated[
    str, option("--key-prefix", metavar="TEXT", help="Put TEXT before every key, e.g. batch7-.")
]
Ids = Annotated[bool, option("--ids", help="Print the id of each row's job, one per line.")]


def command(
    ctx: Context,
    file: File,
    kind: Format = None,
    dry_run: DryRun = False,
    skip_invalid: SkipInvalid = False,
    key_prefix: KeyPrefix = "",
    ids: Ids = False,
    as_json: AsJson = False,
) -> int:
    """Add jobs from the rows of a file: jsonl, json, csv or tsv.

    Every row is checked before any is added. A row with a key is added once, however often it is
    imported: after an interruption, import the same file again.

    Columns: type and args.NAME, or shell, or argv; queue, priority, timeout, retries, retry_base, name,
    tag.NAME, unique, key, after, after_any, after_fail, at, delay, cwd, env.NAME, stdin.

    Examples:
        jobq import jobs.jsonl --dry-run
        jobq import jobs.csv --skip-invalid --key-prefix may-
    """
    cli: Cli = ctx.obj
    checked_text("--key-prefix", key_prefix)
    if ids and as_json:
        raise UsageError("give one of --ids and --json")
    with (
        _opened(file) as source,
        cli.queue(adds=True) as queue,
        Importer(queue, Path.cwd(), prefix=key_prefix) as batch,
    ):
        name = "stdin" if file == "-" else file
        summary = Summary(batch, name, dry_run=dry_run)
        with bar_of(color=cli.color) as bar:
            _check(batch, source, kind, name, bar)
            good = not batch.problem_count or (skip_invalid and not batch.header_wrong)
            if good and not dry_run:
                _add(batch, summary, bar, print_ids=ids)
        summary.report(as_json=as_json, ids=ids, good=good)
        for paused, count in summary.waiting_in(queue).items():
            note_paused(paused, count)
        return summary.show_differing() if good else UsageError.exit_code


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield piped_in().buffer
        return
    with ExitStack() as stack:
        try:
            source = stack.enter_context(Path(file).open("rb"))
        except OSError as error:
            raise UsageError(f"{file}: {error.strerror}") from None
        yield source


def _check(batch: Importer, source: Any, kind: str | None, name: str, bar: Bar | None) -> None:
    try:
        head, source = file_head.peek(source)
        given, kind = kind, kind or formats.format_of(name, head)
        if what := file_head.problem_of(head, name, given or formats.ending_of(name)):
            raise UsageError(f"{name}: {what}")
        table: Table = formats.read(source, kind)
        size = Path(name).stat().st_size if bar and name != "stdin" else None
        step = bar.step("checking", size) if bar else None
        batch.check(table, step and (lambda: step(source.tell() if size else batch.rows)))
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None


def _add(batch: Importer, summary: "Summary", bar: Bar | None, *, print_ids: bool) -> None:
    step = bar.step("adding", len(batch)) if bar else None
    done = 0
    try:
        for inserted in batch.add():
            summary.note(inserted)
            done += len(inserted)
            if step:
                step(done)
            if print_ids:
                print(*(item.id for item in inserted), sep="\n")
    except KeyboardInterrupt:
        note(
            f"Interrupted after {count_of(batch.added)}: "
            "import the file again; rows with a key are not added twice."
        )
        raise


@dataclass(slots=True)
class Summary:
    """The outcome of an import."""

    batch: Importer
    name: str
    dry_run: bool = False
    id_range: list[int] = field(default_factory=list)  # the first and the last id
    new: list[int] = field(default_factory=list)

    def note(self, inserted: list[Inserted]) -> None:
        """Record what became of some rows."""
        new = [item.id for item in inserted if item.created]
        self.new += new
        if new:
            self.id_range = [self.id_range[0] if self.id_range else new[0], new[-1]]

    def waiting_in(self, queue: JobQueue) -> Counter[str]:
        """Return how many of the new jobs wait in each paused queue."""
        paused = {each.name for each in queue.queues() if each.paused}
        waiting: Counter[str] = Counter()
        for ids in batches(self.new if paused else (), READ_BATCH_SIZE):
            waiting.update(job.queue for job in queue.existing(ids).values())
        return Counter({name: count for name, count in waiting.items() if name in paused})

    def report(self, *, as_json: bool, ids: bool, good: bool) -> None:
        """Print problems on stderr, and the rest as a sentence or as a document."""
        self.show_problems()
        if as_json:
            print_json(self._document(good=good))
        elif good and not ids and (is_terminal() or self.dry_run):
            print(self.sentence())
        if not good:
            complain(
                f"{self.name}: no jobs added: correct these rows, or add the others "
                "with --skip-invalid"
            )

    def _counts(self, *, good: bool) -> tuple[int, int]:
        """Return the numbers of rows that are new and that existed, or would be."""
        if self.dry_run and good:
            return len(self.batch) - self.batch.known, self.batch.known
        return self.batch.added, self.batch.existing

    def show_problems(self) -> None:
        """Print the first few problems of the rows, and how many more there are."""
        for problem in self.batch.problems:
            note(f"{self.name}:{problem}")
        if more := self.batch.problem_count - len(self.batch.problems):
            note(f"and {more:,} more")

    def show_differing(self) -> int:
        """Print which rows have the unique key of another job. Return the exit code."""
        for problem in self.batch.differing:
            complain(f"{self.name}:{problem}")
        if more := self.batch.differing_count - len(self.batch.differing):
            complain(f"and {more:,} more")
        return WrongState.exit_code if self.batch.differing else 0

    def sentence(self) -> str:
        """Return a sentence on what was added, or would be."""
        added, existing = self._counts(good=True)
        text = f"{'Would add' if self.dry_run else 'Added'} {count_of(added)}"
        if self.id_range:
            first, last = self.id_range
            text += f" ({first}-{last})" if last > first else f" ({first})"
        if existing:
            text += f", {existing:,} already existed"
        return text

    def _document(self, *, good: bool) -> dict[str, Any]:
        added, existing = self._counts(good=good)
        problems = [
            {"file": self.name, "line": p.line, "column": p.column or None, "message": p.what}
            for p in self.batch.problems
        ]
        first, last = self.id_range or (None, None)
        return {
            "rows": self.batch.rows,
            "added": added,
            "existing": existing,
            "first_id": first,
            "last_id": last,
            "problems": problems,
            "problem_count": self.batch.problem_count,
            "dry_run": self.dry_run,
        }
