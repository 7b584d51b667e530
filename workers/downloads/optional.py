"""Whether yt-dlp is there, and new enough."""

from __future__ import annotations

from jobq import Permanent

OLDEST = (2026, 7, 4)
"""Older versions have known vulnerabilities."""


def require_ytdlp(job_type: str) -> None:
    """Refuse to go on without a yt-dlp that may be used.

    Raises:
        Permanent: saying how to get one.
    """
    try:
        from yt_dlp.version import __version__
    except ImportError:
        raise Permanent(f"{job_type} needs yt-dlp: pip install 'jobq[media]'") from None
    if _numbers(__version__) < OLDEST:
        raise Permanent(
            f"yt-dlp {__version__} has known vulnerabilities: pip install --upgrade 'jobq[media]'"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
