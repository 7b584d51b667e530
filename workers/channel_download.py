"""Job type ``channel_download``: download what is new in a channel or feed, with yt-dlp."""

from __future__ import annotations

from typing import Any

from jobq import JobContext, JobWorker

from .downloads.arguments import ListArgs
from .downloads.listing import add_downloads
from .downloads.optional import require_ytdlp


class ChannelDownload(JobWorker):
    """Download what is new in a channel or feed: a job for each item that is not there yet.

    Run it every night: items that were downloaded before are skipped, wherever their files are now.
    """

    job_type = "channel_download"
    timeout = 3600  # a list of thousands comes in many pages

    class Args(ListArgs):
        pass

    def run(self, args: Args, job: JobContext) -> dict[str, Any]:
        require_ytdlp(self.job_type)
        return add_downloads(args, job, numbered=False)
