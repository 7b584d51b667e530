"""Job type ``playlist_download``: downloads a playlist in order with yt-dlp."""

from __future__ import annotations

from typing import Any

from jobq import JobContext, JobWorker

from .downloads.arguments import ListArgs
from .downloads.listing import add_downloads
from .downloads.requirements import require_ytdlp


class PlaylistDownload(JobWorker):
    """Download a playlist in order: one job per item, with numbered file names.

    As with a channel, items downloaded before are skipped.
    """

    job_type = "playlist_download"
    timeout = 3600  # as for a channel

    class Args(ListArgs):
        pass

    def run(self, args: Args, job: JobContext) -> dict[str, Any]:
        require_ytdlp(self.job_type)
        return add_downloads(args, job, numbered=True)
