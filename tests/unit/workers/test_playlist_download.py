"""`playlist_download`: the items of a list, numbered and in order."""

from pathlib import Path

from jobq import JobQueue
from jobq.testing import drain
from tests.support.local_site import Entry, Site
from tests.support.workers import Channel, listed, titles_in


def test_a_playlist_is_numbered_and_in_order(
    channel: Channel, site: Site, queue: JobQueue, out: Path
) -> None:
    titles = ["Zebra", "Ape", "Mole"]
    entries = [Entry(title, site.clip(f"/{title}.mp4")) for title in titles]
    url = site.feed("/list", entries)

    done = channel(url, job_type="playlist_download")
    finished = drain(queue, real=True)

    assert listed(done) == (3, 3, 0)
    assert [job.name for job in finished] == titles
    assert titles_in(out) == ["001 - Zebra.mp4", "002 - Ape.mp4", "003 - Mole.mp4"]


def test_a_playlist_that_grows_keeps_counting(
    channel: Channel, site: Site, queue: JobQueue, out: Path
) -> None:
    for count in (2, 3):
        channel(site.numbered_feed("/list", count), job_type="playlist_download")
        drain(queue, real=True)

    assert titles_in(out) == ["001 - Clip 1.mp4", "002 - Clip 2.mp4", "003 - Clip 3.mp4"]
