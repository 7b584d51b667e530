"""Job type ``video_download``: downloads one item with yt-dlp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from jobq import JobContext, JobWorker, Permanent

from .downloads.arguments import ItemArgs, output_dir, since_moment
from .downloads.locks import lock_file
from .downloads.record import Record
from .downloads.requirements import require_ytdlp


class VideoDownload(JobWorker):
    """Download one video or audio file, resuming a partial download of an earlier attempt."""

    job_type = "video_download"
    timeout = 0  # a download may take hours; a host that stops sending fails it after 30 s
    max_retries = 5  # networks come back

    class Args(ItemArgs):
        title: str | None = Field(
            default=None, description="file name, by default the item's own title"
        )
        item: str | None = Field(
            default=None,
            min_length=1,
            max_length=400,
            description="key of the item in the record of downloads, by default extractor:id",
        )
        number: int | None = Field(
            default=None, ge=0, description="number at the start of the file name"
        )

    def run(self, args: Args, job: JobContext) -> dict[str, Any]:
        require_ytdlp(self.job_type)
        from .downloads.ytdlp import Request, fetch

        directory = output_dir(args, job)
        _create(directory)
        request = Request(
            url=args.url,
            directory=directory,
            lock_file=lock_file(job.queue),
            format=args.format,
            title=args.title,
            key=args.item,
            number=args.number,
            since=since_moment(args),
        )
        got = fetch(request, job)
        name = None if got.file is None else got.file.name
        Record(job.queue, directory).add(got.key, file=name, date=got.date, url=args.url)
        job.log.info("%s", got.file or "not downloaded: older than 'since'")
        return {
            "path": got.file and str(got.file),
            "size_bytes": got.file and got.file.stat().st_size,
            "downloaded": got.downloaded,
            "item": got.key,
            "title": args.title or got.info.get("title"),
            "url": got.info.get("webpage_url") or args.url,
            "duration": got.info.get("duration"),
            "date": got.date,
        }


def _create(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise Permanent(f"{directory}: {error.strerror}") from None
