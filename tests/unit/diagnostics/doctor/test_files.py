"""File systems and versions of SQLite, told apart by their names and numbers."""

from pathlib import Path

import pytest

from jobq.diagnostics.doctor.files import has_wal_reset_bug, is_network, mount_type

MOUNTS = r"""21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:40 / /home rw shared:9 - nfs4 server:/home rw
31 30 0:41 / /home/me/local\040disk rw - xfs /dev/sdb1 rw
32 21 0:42 / /far rw - fuse.sshfs me@far: rw
33 21 0:43 / /far rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/jobq.db", "ext4"),
        ("/home/me/jobq.db", "nfs4"),
        ("/homes/jobq.db", "ext4"),
        ("/home/me/local disk/jobq.db", "xfs"),
        ("/far/jobq.db", "tmpfs"),
    ],
)
def test_the_file_system_that_a_path_is_on(path: str, kind: str) -> None:
    assert mount_type(Path(path), MOUNTS) == kind


def test_file_systems_on_other_machines() -> None:
    far = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.rclone", "ceph")
    near = ("ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "fuse.ntfs-3g", "nfsd", "")
    assert all(map(is_network, far))
    assert not any(map(is_network, near))


@pytest.mark.parametrize(
    ("version", "has_it"),
    [
        ("3.6.23", False), ("3.7.0", True), ("3.40.1", True), ("3.44.5", True), ("3.44.6", False),
        ("3.45.0", True), ("3.50.6", True), ("3.50.7", False), ("3.51.2", True), ("3.51.3", False),
        ("3.52.0", False),
    ],
)  # fmt: skip
def test_the_bug_of_sqlite_is_known_by_its_versions(version: str, has_it: bool) -> None:
    assert has_wal_reset_bug(version) == has_it
