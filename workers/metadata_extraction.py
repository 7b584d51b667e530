"""Job type ``metadata_extraction``: describes a media file, or the media at a URL.

Files are read with PyAV (FFmpeg's libraries), URLs with yt-dlp, without downloading.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from jobq import JobContext, JobWorker, NotFound, Permanent

from .downloads.arguments import Url
from .downloads.requirements import require_ytdlp

if TYPE_CHECKING:
    from av.container.core import Chapter

_BLOCK_BYTES = 1 << 20

# FFmpeg reads any file with certain names (.txt, .bin …) as text-mode art in one of these formats.
_TEXT_ART_FORMATS = frozenset({"adf", "bin", "idf", "tty"})

_TEXT_PROBE_BYTES = 1 << 16
_NOT_IN_TEXT = bytes({*range(32), 127} - {*b"\t\n\f\r"})

# A disguised playlist must not make FFmpeg fetch the URLs it names, and the name of an image
# (shot%03d.png) must not make it read other images.
_OPEN_OPTIONS = {"protocol_whitelist": "file", "pattern_type": "none"}

_MAX_PROBE_PACKETS = 1000
_MAX_PROBE_PIXELS = 100_000_000  # larger pictures take gigabytes to decode

_SIDECAR_KEYS = frozenset({"path", "size_bytes", "container", "streams", "sha256"})
"""A JSON file with these keys is an earlier sidecar."""

_MAX_SIDECAR_BYTES = 64 << 20


class MetadataExtraction(JobWorker):
    """Read the format, duration, streams, chapters and tags of a media file or URL."""

    job_type = "metadata_extraction"
    timeout = 3600  # the checksum of a large file takes a while

    class Args(BaseModel):
        # Made absolute when the job is added: the supervisor runs in another directory.
        path: Annotated[Path, AfterValidator(Path.absolute)] | None = Field(
            default=None,
            description="media file, relative to where you add the job",
        )
        url: Url | None = Field(
            default=None, description="http or https URL to describe, without downloading it"
        )
        of_download: bool = Field(
            default=False, description="read the file of the video_download this job waits for"
        )
        sidecar: bool = Field(
            default=False,
            description="also write the result to <file name>.json beside the file; "
            "only an earlier sidecar is replaced",
        )
        checksum: bool = Field(default=True, description="compute the file's SHA-256")

        @model_validator(mode="after")
        def _has_one_subject(self) -> Self:
            given = [self.path is not None, self.url is not None, self.of_download]
            if not any(given):
                raise ValueError("argument 'path' is missing: give a path or a url")
            if sum(given) > 1:
                raise ValueError("give a path or a url, not both")
            if self.url is not None and self.sidecar:
                raise ValueError("sidecar needs a path: there is no file beside which to write it")
            return self

    def run(self, args: Args, job: JobContext) -> dict[str, Any]:
        if args.url is not None:
            require_ytdlp(self.job_type)
            return _of_url(args.url, job)
        path = args.path or _downloaded(job)
        return _of_file(path, args, job) if path is not None else {"path": None}


def _of_file(path: Path, args: MetadataExtraction.Args, job: JobContext) -> dict[str, Any]:
    shown = _shown(path)
    size = _file_size(path)
    if args.sidecar:
        _require_place_for_sidecar(path)  # now, not after hours of reading
    job.log.info("reading %s (%d bytes)", shown, size)
    result = {
        "path": shown,
        "size_bytes": size,
        **_media(path),
        "sha256": _sha256(path, size, job) if args.checksum else None,
    }
    if args.sidecar:
        job.log.info("wrote %s", _shown(_write_sidecar(path, result)))
    return result


# -- downloads and URLs ------------------------------------------------------------------------

_URL_FIELDS = (
    "extractor", "id", "title", "description", "uploader", "channel", "channel_id", "duration",
    "timestamp", "upload_date", "view_count", "like_count", "webpage_url", "thumbnail", "language",
    "age_limit", "live_status", "availability", "categories", "tags", "chapters", "items",
)  # fmt: skip

_FORMAT_FIELDS = (
    "format_id", "ext", "width", "height", "fps", "vcodec", "acodec", "tbr", "filesize",
    "filesize_approx", "language", "format_note",
)  # fmt: skip

_MAX_DESCRIPTION_LENGTH = 5000


def _downloaded(job: JobContext) -> Path | None:
    """Return the file that the job's parent downloaded; None if the item was too old."""
    queue = job.queue
    try:
        parents = queue.get_many([parent.id for parent in queue.get(job.id).parents])
    except NotFound as error:
        raise Permanent(f"of_download: {error}") from None
    for parent in parents:
        if parent.type == "video_download" and parent.result:
            path = parent.result["path"]
            return None if path is None else Path(path)
    raise Permanent("of_download: none of this job's parents is a video_download")


def _of_url(url: str, job: JobContext) -> dict[str, Any]:
    """Return the main fields of what yt-dlp knows; all of them are in the job's artifacts."""
    from .downloads.ytdlp import describe

    info = describe(url, job)
    full_info = job.artifacts / "info.json"
    full_info.write_text(json.dumps(info, ensure_ascii=False, indent=2) + "\n", "utf-8")
    job.log.info("wrote %s", _shown(full_info))
    result = {"url": url, **{name: info[name] for name in _URL_FIELDS if name in info}}
    if "description" in result:
        result["description"] = str(result["description"])[:_MAX_DESCRIPTION_LENGTH]
    result["subtitles"] = sorted(info.get("subtitles") or {})
    result["formats"] = [
        {name: found[name] for name in _FORMAT_FIELDS if found.get(name) is not None}
        for found in info.get("formats") or ()
    ]
    return result


def _shown(path: Path) -> str:
    """Return a path as text that can be stored and printed, even if it is not valid UTF-8."""
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


# -- reading with FFmpeg's libraries -----------------------------------------------------------


def _media(path: Path) -> dict[str, Any]:
    try:
        import av
    except ImportError:
        raise Permanent(
            "metadata_extraction needs PyAV: pipx inject jobq av, or in jobq's venv: pip install av"
        ) from None
    try:
        with av.open(
            path, "r", container_options=_OPEN_OPTIONS, metadata_errors="replace"
        ) as container:
            if not _is_media(container, path):
                raise Permanent(f"{_shown(path)}: not a media file")
            return _container(container)
    except av.FFmpegError as error:
        raise Permanent(f"{_shown(path)}: not a readable media file: {error.strerror}") from None


def _is_media(container: Any, path: Path) -> bool:
    """Return false for text: FFmpeg takes JSON for lyrics, and opens the files of a playlist.

    Of text, only the few formats that spell out the pixels of a picture are media.
    """
    name = container.format.name
    if name in _TEXT_ART_FORMATS or not len(container.streams):
        return False
    if name == "yuv4mpegpipe" or not _is_text(path):
        return True
    return name.endswith("_pipe") and any(
        stream.codec_context and stream.codec_context.width for stream in container.streams.video
    )


def _is_text(path: Path) -> bool:
    """Return true if a file begins without control characters, as text in any encoding does."""
    with path.open("rb") as file:
        head = file.read(_TEXT_PROBE_BYTES)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head.decode("utf-16", "replace").encode("utf-8", "replace")
    return len(head) == len(head.translate(None, _NOT_IN_TEXT))


def _container(container: Any) -> dict[str, Any]:
    rotations = _rotations(container)
    return {
        "container": {"name": container.format.name, "long_name": container.format.long_name},
        "duration": _seconds(container.duration, Fraction(1, 1_000_000)),
        "bit_rate": container.bit_rate or None,
        "streams": [_stream(stream, rotations.get(stream.index)) for stream in container.streams],
        "tags": dict(container.metadata),
        "chapters": [_chapter(chapter) for chapter in container.chapters()],
    }


def _rotations(container: Any) -> dict[int, int]:
    """Return the clockwise turn of each video stream's first picture, as far as it is found."""
    import av

    missing = {
        stream.index
        for stream in container.streams.video
        if stream.codec_context
        and stream.codec_context.width * stream.codec_context.height <= _MAX_PROBE_PIXELS
    }
    found: dict[int, int] = {}
    with suppress(av.FFmpegError):
        for packet in islice(container.demux() if missing else (), _MAX_PROBE_PACKETS):
            if packet.stream_index in missing:
                with suppress(av.FFmpegError):  # of this picture
                    for frame in packet.decode()[:1]:
                        found[packet.stream_index] = -frame.rotation % 360
                        missing.discard(packet.stream_index)
            if not missing:
                break
    return found


def _display(stream: Any, rotation: int | None) -> dict[str, Any]:
    """Return how a picture is to be shown: turned, and with its pixels as wide as they are."""
    size: tuple[int, int] | tuple[None, None] = (None, None)
    if rotation is not None:
        width, height = stream.codec_context.width, stream.codec_context.height
        size = round(width * (stream.sample_aspect_ratio or 1)), height
        if rotation % 180 == 90:
            size = size[::-1]
    return {"rotation": rotation, "display_width": size[0], "display_height": size[1]}


def _stream(stream: Any, rotation: int | None) -> dict[str, Any]:
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
            **_display(stream, rotation),
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
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            done += len(block)
            job.progress(done, size, "sha256")
    return digest.hexdigest()


def _sidecar_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _require_place_for_sidecar(path: Path) -> bool:
    """Check that a sidecar can be written; return true if it replaces an earlier one.

    Raises:
        Permanent: the name is too long, the directory is not writable, or something that is not
            an earlier sidecar has the name.
    """
    sidecar = _sidecar_of(path)
    try:
        found = sidecar.lstat()
    except FileNotFoundError:
        found = None
    except OSError as error:
        raise Permanent(f"{_shown(sidecar)}: no sidecar can be written: {error.strerror}") from None
    if found is not None and not _is_sidecar(sidecar, found):
        raise Permanent(
            f"{_shown(sidecar)}: already exists, and is no sidecar of jobq: move it away, "
            "or leave out `sidecar`"
        )
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise Permanent(f"{_shown(path.parent)}: not writable: no sidecar can be written")
    return found is not None


def _is_sidecar(path: Path, found: os.stat_result) -> bool:
    """Return true for an earlier sidecar, or the empty file that begins one."""
    if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_SIDECAR_BYTES:
        return False
    if found.st_size == 0:
        return True
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.keys() >= _SIDECAR_KEYS


def _write_sidecar(path: Path, result: dict[str, Any]) -> Path:
    """Write the result beside the file, replacing only an earlier sidecar, in one step."""
    sidecar = _sidecar_of(path)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=".jobq-", suffix=".tmp", delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            json.dump(result, file, ensure_ascii=False, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
            if not _require_place_for_sidecar(path):
                sidecar.touch(0o600, exist_ok=False)  # takes the name, if it is still free
            temporary.replace(sidecar)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return sidecar
