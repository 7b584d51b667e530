"""Job type ``channel_download``: downloads the new items of a channel or feed with yt-dlp."""

from __future__ import annotations

from typing import Any

from jobq import JobContext, JobWorker

from .downloads.arguments import ListArgs
from .downloads.listing import add_downloads
from .downloads.requirements import require_ytdlp


class ChannelDownload(JobWorker):
    """Download the new items of a channel or feed: one job per item.

    Run it every night: items downloaded before are skipped, even if their files have been moved.
    """

    job_type = "channel_download"
    timeout = 3600  # a list of thousands comes in many pages

    class Args(ListArgs):
        pass

    def run(self, args: Args, job: JobContext) -> dict[str, Any]:
        require_ytdlp(self.job_type)
        return add_downloads(args, job, numbered=False)
