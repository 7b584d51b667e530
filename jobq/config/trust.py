"""Trust in files: only the user's own and root's are obeyed, if no one else may write or replace them.

A jobq.toml names commands to run and the server that jobs go to; worker files and hooks are code;
a database holds the jobs that `jobq work` runs. Another user's, in a shared directory such as /tmp,
would run as the person who types `jobq`: so it is refused, as git refuses another user's repository.
"""

import os
import stat
from pathlib import Path

from jobq.errors import ConfigError

_MAX_LINKS = 40
"""As many symbolic links as Linux follows."""


def refuse_foreign(path: Path, error: type[Exception] = ConfigError) -> None:
    """Refuse a file or directory that is not this user's alone; one that is not there is fine.

    Raises:
        ConfigError: it is refused, or what was given as ``error``; the message says why.
    """
    if (reason := distrust(path)) is not None:
        raise error(f"{path}: {reason}")


def distrust(path: Path | str) -> str | None:
    """Return why a file or directory must not be used, and what to do; None if it may be.

    Of a symbolic link, both ends must be trusted.
    """
    for _ in range(_MAX_LINKS):
        try:
            found = os.lstat(path)
        except OSError:
            return _distrust_place(path)  # another user may be able to create it there
        is_link = stat.S_ISLNK(found.st_mode)
        if not (is_link or stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            return None  # a device or the like is refused where it is opened, and named there
        reason = _distrust_owner(found, path) or (None if is_link else _distrust_mode(found, path))
        if reason := reason or _distrust_place(path):
            return reason
        if not is_link:
            return None
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    return "too many symbolic links: replace it with a file"


def refuse_foreign_open(descriptor: int, path: Path) -> None:
    """Refuse an open file as `refuse_foreign` does: its path may lead to another one by now.

    Raises:
        ConfigError: it is refused.
    """
    found = os.fstat(descriptor)
    if (reason := _distrust_owner(found, path) or _distrust_mode(found, path)) is not None:
        raise ConfigError(f"{path}: {reason}")


def readers(path: Path) -> str | None:
    """Return who else may read a file, by its mode; None if no one may.

    Raises:
        OSError: it can't be examined.
    """
    return _others(os.stat(path), path, stat.S_IROTH, stat.S_IRGRP)


def _distrust_place(path: Path | str) -> str | None:
    """Return why others may replace what lies in the directory of a path."""
    folder = os.path.dirname(path) or os.curdir
    try:
        found = os.stat(folder)
    except OSError:
        return None  # there is nothing in it
    if not _is_trusted(found.st_uid):
        return (
            f"its directory {folder} belongs to {_name(found.st_uid)}, who may replace it: "
            "move it to a directory of your own"
        )
    if found.st_mode & stat.S_ISVTX:  # as in /tmp: only the owner of a file may replace it
        return None
    if who := _writers(found, folder):
        return f"{who} may replace it in {folder}: run `chmod go-w {folder}`"
    return None


def _distrust_owner(found: os.stat_result, path: Path | str) -> str | None:
    if _is_trusted(found.st_uid):
        return None
    return (
        f"{path if stat.S_ISLNK(found.st_mode) else 'it'} belongs to {_name(found.st_uid)}, and "
        f"you are {_name(os.geteuid())}: use one of your own"
    )


def _distrust_mode(found: os.stat_result, path: Path | str) -> str | None:
    if who := _writers(found, path):
        mode = stat.S_IMODE(found.st_mode)
        return f"{who} may write to it (mode {mode:04o}): run `chmod go-w {path}`"
    return None


def _is_trusted(uid: int) -> bool:
    return uid in (0, os.geteuid())


def _writers(found: os.stat_result, path: Path | str) -> str | None:
    """Return who else may write to a file or directory, by its mode."""
    return _others(found, path, stat.S_IWOTH, stat.S_IWGRP)


def _others(found: os.stat_result, path: Path | str, others_bit: int, group_bit: int) -> str | None:
    if found.st_mode & others_bit:
        return "other users"
    if found.st_mode & group_bit and not _is_private_group(found, path):
        return f"the group {_group_name(found.st_gid)}"
    return None


def _is_private_group(found: os.stat_result, path: Path | str) -> bool:
    """Return whether a group is that of its owner alone: of the same name, without other members.

    Many systems give each user such a group, and a umask of 002. With an access control list, the
    bits of the group are those of everybody whom the list names.
    """
    import grp  # only for files that their group may write to
    import pwd

    try:
        owner, group = pwd.getpwuid(found.st_uid), grp.getgrgid(found.st_gid)
        lists = os.listxattr(path) if hasattr(os, "listxattr") else []
    except (KeyError, OSError):
        return False
    return (
        owner.pw_gid == group.gr_gid
        and owner.pw_name == group.gr_name
        and set(group.gr_mem) <= {owner.pw_name}
        and "system.posix_acl_access" not in lists
    )


def _name(uid: int) -> str:
    import pwd

    try:
        return f"{pwd.getpwuid(uid).pw_name} (user {uid})"
    except KeyError:
        return f"user {uid}"


def _group_name(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
