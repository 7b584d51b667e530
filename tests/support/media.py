"""Makes small, real media files, for tests and for the demo."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av import AudioFrame, AudioStream, Packet, VideoFrame, VideoStream

if TYPE_CHECKING:
    from av.container.core import Chapter

FRAME_RATE = 25
SAMPLE_RATE = 44_100
_FRAME_SAMPLES = 1024  # what the AAC encoder takes at a time


def make_clip(
    path: Path,
    *,
    seconds: float = 1,
    size: tuple[int, int] | None = (64, 48),
    audio: bool = True,
    language: str | None = None,
    tags: Mapping[str, str] | None = None,
    chapters: Sequence[tuple[float, float, str]] = (),
    rotation: int = 0,
) -> Path:
    """Write a silent clip that fades from black to white, and return its path.

    The suffix chooses the format: .mp4, .mkv, .m4a … Without a size there is no picture.
    Chapters are (start, end, title), in seconds. Players turn the picture by ``rotation`` degrees
    clockwise.
    """
    with av.open(path, "w") as container:
        container.metadata.update(tags or {})
        container.set_chapters([_chapter(*chapter) for chapter in chapters])
        video = container.add_stream("mpeg4", rate=FRAME_RATE) if size else None
        sound = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono") if audio else None
        if sound is not None and language is not None:
            sound.metadata["language"] = language
        if video is not None and size is not None:
            video.width, video.height = size
            video.set_display_rotation(-rotation)
            container.mux(list(_fade(video, round(seconds * FRAME_RATE))))
        if sound is not None:
            container.mux(list(_silence(sound, round(seconds * SAMPLE_RATE / _FRAME_SAMPLES))))
    return path


def _chapter(start: float, end: float, title: str) -> Chapter:
    return {
        "id": round(start * 1000),
        "start": round(start * 1000),
        "end": round(end * 1000),
        "time_base": Fraction(1, 1000),
        "metadata": {"title": title},
    }


def _fade(stream: VideoStream, frames: int) -> Iterator[Packet[VideoStream]]:
    stream.pix_fmt = "yuv420p"
    for number in range(frames):
        frame = VideoFrame(stream.width, stream.height, "yuv420p")
        for plane, level in zip(frame.planes, (number * 255 // frames, 128, 128), strict=True):
            plane.update(bytes([level]) * plane.buffer_size)
        frame.pts = number
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _silence(stream: AudioStream, frames: int) -> Iterator[Packet[AudioStream]]:
    for number in range(frames):
        frame = AudioFrame("fltp", "mono", _FRAME_SAMPLES)
        frame.sample_rate = SAMPLE_RATE
        frame.pts = number * _FRAME_SAMPLES
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        yield from stream.encode(frame)
    yield from stream.encode(None)
