"""Job type ``metadata_extraction``: what a media file holds, read with PyAV (FFmpeg's libraries)."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from jobq import JobContext, JobWorker, Permanent

if TYPE_CHECKING:
    from av.container.core import Chapter

_BLOCK = 1 << 20

# FFmpeg takes any file of certain names (.txt, .bin …) for text-mode art in one of these.
_TEXT_ART = frozenset({"adf", "bin", "idf", "tty"})

# A playlist in disguise must not make FFmpeg fetch what it names.
_OPEN_OPTIONS = {"protocol_whitelist": "file"}


class MetadataExtraction(JobWorker):
    """Read the format, duration, streams, chapters and tags of a media file."""

    job_type = "metadata_extraction"
    timeout = 3600  # large files take a while to sum

    class Args(BaseModel):
        # Made absolute when the job is added: the supervisor works in another directory.
        path: Annotated[Path, AfterValidator(Path.absolute)] = Field(
            description="the media file; a relative path is meant from where the job is added"
        )
        sidecar: bool = Field(
            default=False, description="write the result to <file name>.json beside the file, too"
        )
        checksum: bool = Field(default=True, description="compute the file's SHA-256")

    def run(self, args: Args, job: JobContext) -> dict[str, Any]:
        shown = _shown(args.path)
        size = _file_size(args.path)
        job.log.info("reading %s (%d bytes)", shown, size)
        result = {
            "path": shown,
            "size_bytes": size,
            **_media(args.path),
            "sha256": _sha256(args.path, size, job) if args.checksum else None,
        }
        if args.sidecar:
            job.log.info("wrote %s", _shown(_write_sidecar(args.path, result)))
        return result


def _shown(path: Path) -> str:
    """A path as text that can be stored and printed, even where its name is not valid UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _file_size(path: Path) -> int:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise Permanent(f"{_shown(path)}: {error.strerror}") from None
    if stat.S_ISDIR(found.st_mode):
        raise Permanent(f"{_shown(path)}: a directory, not a media file")
    if not stat.S_ISREG(found.st_mode):
        raise Permanent(f"{_shown(path)}: not a regular file")
    if found.st_size == 0:
        raise Permanent(f"{_shown(path)}: the file is empty")
    return found.st_size


# -- what FFmpeg tells -------------------------------------------------------------------------


def _media(path: Path) -> dict[str, Any]:
    try:
        import av
    except ImportError:
        raise Permanent("metadata_extraction needs PyAV: pip install 'jobq[media]'") from None
    try:
        with av.open(
            path, "r", container_options=_OPEN_OPTIONS, metadata_errors="replace"
        ) as container:
            if container.format.name in _TEXT_ART or not len(container.streams):
                raise Permanent(f"{_shown(path)}: not a media file")
            return _container(container)
    except av.FFmpegError as error:
        raise Permanent(f"{_shown(path)}: not a readable media file: {error.strerror}") from None


def _container(container: Any) -> dict[str, Any]:
    return {
        "container": {"name": container.format.name, "long_name": container.format.long_name},
        "duration": _seconds(container.duration, Fraction(1, 1_000_000)),
        "bit_rate": container.bit_rate or None,
        "streams": [_stream(stream) for stream in container.streams],
        "tags": dict(container.metadata),
        "chapters": [_chapter(chapter) for chapter in container.chapters()],
    }


def _stream(stream: Any) -> dict[str, Any]:
    context = stream.codec_context  # None if FFmpeg can't decode it: fonts, timed data …
    described = {
        "index": stream.index,
        "type": stream.type,
        "codec": context and context.codec.canonical_name,
        "codec_long_name": context and context.codec.long_name,
        "profile": stream.profile,
        "bit_rate": (context and context.bit_rate) or None,
        "duration": _seconds(stream.duration, stream.time_base),
        "language": None if stream.language == "und" else stream.language,  # undetermined
        "tags": dict(stream.metadata),
    }
    if context and stream.type == "video":
        described |= {
            "width": context.width,
            "height": context.height,
            "pixel_format": context.pix_fmt,
            "frame_rate": float(stream.average_rate) if stream.average_rate else None,
        }
    if context and stream.type == "audio":
        described |= {
            "sample_rate": context.sample_rate,
            "channels": context.channels,
            "layout": context.layout.name,
        }
    return described


def _chapter(chapter: Chapter) -> dict[str, Any]:
    return {
        "start": _seconds(chapter["start"], chapter["time_base"]),
        "end": _seconds(chapter["end"], chapter["time_base"]),
        "title": chapter["metadata"].get("title"),
    }


def _seconds(ticks: int | None, tick: Fraction | None) -> float | None:
    return None if ticks is None or tick is None else float(ticks * tick)


# -- the file itself ---------------------------------------------------------------------------


def _sha256(path: Path, size: int, job: JobContext) -> str:
    digest, done = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            done += len(block)
            job.progress(done, size, "sha256")
    return digest.hexdigest()


def _write_sidecar(path: Path, result: dict[str, Any]) -> Path:
    """Write the result beside the file; whoever reads it sees all of it, or the one before.

    A symbolic link in its place is replaced, not followed.
    """
    sidecar = path.with_name(f"{path.name}.json")
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=".jobq-", suffix=".tmp", delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            json.dump(result, file, ensure_ascii=False, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(sidecar)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return sidecar
