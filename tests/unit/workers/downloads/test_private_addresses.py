"""Jobs that came over HTTP download from public addresses only."""

from importlib import import_module
from pathlib import Path

import pytest

from jobq import Job, JobQueue, JobStatus
from jobq.testing import drain
from tests.support.local_site import Entry, Site, answers, clip, sends
from tests.support.workers import Download

VIA_HTTP = {"jobq:via": "http"}


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),  # metadata of cloud hosts
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_public_addresses(package: str, address: str, public: bool) -> None:
    assert import_module(f"{package}.downloads.addresses").is_public(address) is public


def run(queue: JobQueue, url: str, out: Path, job_type: str = "video_download") -> Job:
    args = {"url": url, "output_dir": str(out)}
    job = queue.add(job_type, args, tags=VIA_HTTP)
    return next(each for each in drain(queue, real=True) if each.id == job.id)


def test_this_host_is_not_downloaded_from(
    queue: JobQueue, site: Site, out: Path, download: Download
) -> None:
    url = site.page("/a.mp4", sends(clip()))
    for each in (url, url.replace("127.0.0.1", "localhost")):
        job = run(queue, each, out)
        assert job.status is JobStatus.FAILED
        assert "at the private address" in str(job.error)
        assert job.attempts == 1, "another attempt would fail in the same way"
    assert site.requests == []
    assert download(url).error is None, "what was added in the shell may"


def test_no_redirect_leads_there(
    queue: JobQueue, site: Site, out: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    networking = import_module(f"{package}.downloads.networking")
    monkeypatch.setattr(networking, "is_public", lambda address: address == "127.0.0.1")
    there = site.page("/b.mp4", sends(clip())).replace("127.0.0.1", "127.0.0.2")
    job = run(queue, site.page("/a.mp4", answers(302, Location=there)), out)
    assert "127.0.0.2 is at the private address 127.0.0.2" in str(job.error)
    assert [each.path for each in site.requests] == ["/a.mp4"]


def test_no_proxy_is_used(
    queue: JobQueue, site: Site, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", site.page("/", sends(clip())))
    job = run(queue, "http://127.0.0.1:9/a.mp4", out)
    assert "at the private address" in str(job.error)
    assert site.requests == []


def test_the_items_of_a_list_are_held_to_it_as_well(
    queue: JobQueue, site: Site, out: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    networking = import_module(f"{package}.downloads.networking")
    feed = site.feed("/feed", [Entry("a", site.page("/a.mp4", sends(clip())))])
    with monkeypatch.context() as patch:
        patch.setattr(networking, "is_public", lambda _: True)
        job = queue.add("channel_download", {"url": feed, "output_dir": str(out)}, tags=VIA_HTTP)
        claim_all = drain(queue, real=True)
    children = [each for each in claim_all if each.added_by == job.id]
    assert children
    assert all(each.tags["jobq:via"] == "http" for each in children)
