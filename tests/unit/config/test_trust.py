import grp
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobq.config.trust import distrust, readers, refuse_foreign
from jobq.errors import ConfigError, DatabaseError
from tests.support.users import STRANGER, as_root


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir(mode=0o755)
    file = tmp_path / "own" / "jobq.toml"
    file.write_text("")
    return file


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o644, 0o755])
def test_a_file_of_ones_own_is_trusted(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert distrust(file) is None
    assert distrust(file.parent) is None


@pytest.mark.parametrize("mode", [0o666, 0o602, 0o777])
def test_a_file_that_others_may_write_to(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert (
        distrust(file) == f"other users may write to it (mode {mode:04o}): run `chmod go-w {file}`"
    )
    assert "other users may write to it" in str(distrust_link(file))


def distrust_link(file: Path) -> str | None:
    link = file.parent.parent / "link"
    link.symlink_to(file)
    return distrust(link)


def test_a_directory_in_which_others_may_replace_it(file: Path) -> None:
    folder = file.parent
    folder.chmod(0o777)
    assert distrust(file) == f"other users may replace it in {folder}: run `chmod go-w {folder}`"
    assert "may replace it" in str(distrust_link(file))
    assert "may replace it" in str(distrust(folder / "not there yet"))
    folder.chmod(0o1777)  # as /tmp: only the owner of a file may replace it
    assert distrust(file) is None


def test_a_folder_to_which_others_may_add_files(file: Path) -> None:
    file.parent.chmod(0o1777)
    assert "other users may write to it (mode 1777)" in str(distrust(file.parent))


def test_a_link_in_a_directory_of_others(file: Path) -> None:
    shared = file.parent.parent / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "jobq.toml").symlink_to(file)
    assert f"may replace it in {shared}" in str(distrust(shared / "jobq.toml"))


def test_a_link_that_leads_to_itself(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert "too many symbolic links" in str(distrust(tmp_path / "loop"))


@as_root
@pytest.mark.parametrize("place", ["file", "folder", "link"])
def test_what_belongs_to_another_user(file: Path, place: str) -> None:
    link = file.parent / "link"
    link.symlink_to("jobq.toml")
    owned = {"file": file, "folder": file.parent, "link": link}[place]
    os.chown(owned, STRANGER, STRANGER, follow_symlinks=False)
    assert f"belongs to user {STRANGER}" in str(distrust(link))
    assert (distrust(file) is None) is (place == "link")
    with pytest.raises(DatabaseError, match=f"belongs to user {STRANGER}"):
        refuse_foreign(link, DatabaseError)


@as_root
def test_another_user_may_use_what_is_roots(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    assert distrust(file) is None
    os.chown(file, STRANGER, STRANGER)
    assert distrust(file) is None
    os.chown(file, STRANGER + 1, STRANGER)
    with pytest.raises(ConfigError, match=f"you are user {STRANGER}"):
        refuse_foreign(file)


# -- groups ------------------------------------------------------------------------------------


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the user and the group of a file have these names and members."""

    def let(*, group: str, members: list[str], primary: bool = True) -> None:
        gid = os.getegid()
        own = SimpleNamespace(pw_name="alice", pw_gid=gid if primary else gid + 1)
        its = SimpleNamespace(gr_name=group, gr_mem=members, gr_gid=gid)
        monkeypatch.setattr(pwd, "getpwuid", lambda _: own)
        monkeypatch.setattr(grp, "getgrgid", lambda _: its)

    return let


@pytest.mark.parametrize("members", [[], ["alice"]])
def test_a_users_own_group_may_write(
    file: Path, groups: Callable[..., None], members: list[str]
) -> None:
    """As on systems where each user has a group, and a umask of 002."""
    groups(group="alice", members=members)
    file.chmod(0o664)
    file.parent.chmod(0o775)
    assert distrust(file) is None
    assert distrust(file.parent) is None


@pytest.mark.parametrize(
    "group",
    [
        {"group": "alice", "members": ["bob"]},
        {"group": "users", "members": []},  # those whose primary group it is are not listed
        {"group": "alice", "members": [], "primary": False},
    ],
)
def test_a_group_with_others_in_it_may_not(
    file: Path, groups: Callable[..., None], group: dict[str, object]
) -> None:
    groups(**group)
    file.chmod(0o664)
    assert f"the group {group['group']} may write to it (mode 0664)" in str(distrust(file))
    file.chmod(0o644)
    file.parent.chmod(0o775)
    assert f"the group {group['group']} may replace it" in str(distrust(file))


def test_a_file_whose_group_bits_are_those_of_an_access_control_list(
    file: Path, groups: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups(group="alice", members=[])
    monkeypatch.setattr(os, "listxattr", lambda _: ["system.posix_acl_access"], raising=False)
    file.chmod(0o664)
    assert distrust(file) is not None


def test_a_group_without_a_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(grp, "getgrgid", unknown)
    file.chmod(0o664)
    assert f"the group {file.stat().st_gid} may write to it" in str(distrust(file))


def test_who_may_read(file: Path) -> None:
    file.chmod(0o604)
    assert readers(file) == "other users"
    file.chmod(0o600)
    assert readers(file) is None
