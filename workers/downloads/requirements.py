"""The check that yt-dlp is installed and recent enough."""

from __future__ import annotations

from jobq import Permanent

MIN_VERSION = (2026, 7, 4)
"""Older versions of yt-dlp have known vulnerabilities."""


def require_ytdlp(job_type: str) -> None:
    """Refuse to run without a safe version of yt-dlp.

    Raises:
        Permanent: yt-dlp is missing or too old; the message gives the command to install it.
    """
    try:
        from yt_dlp.version import __version__
    except ImportError:
        raise Permanent(
            f"{job_type} needs yt-dlp: pipx inject jobq yt-dlp, "
            "or in jobq's venv: pip install yt-dlp"
        ) from None
    if _numbers(__version__) < MIN_VERSION:
        raise Permanent(
            f"yt-dlp {__version__} has known vulnerabilities: pipx runpip jobq install -U yt-dlp, "
            "or in jobq's venv: pip install -U yt-dlp"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())
