"""The files in a zip archive: which of them are read, how a path and a pattern name them, and what makes an archive one that is not read.

An archive of one file is read under its own name, as a compressed file is. Of several, each is a file of its own, `orders.zip!2025/march.csv`.
Nothing is unpacked to the disk, and a member's name is only a label.
"""

import zipfile
from fnmatch import fnmatchcase
from typing import IO

from northstar.base.errors import FileFailed
from northstar.extract.sources.packed import format_of, is_hidden

SUFFIX, MARK = ".zip", ".zip!"
# each member is opened on its own, which reads the archive's list of members
MOST_MEMBERS = 1_000
# an archive that unpacks to more than so many bytes and so many times its size is a bomb: text shrinks to a tenth, rarely to a fiftieth
LARGE_BYTES, LARGEST_RATIO = 1 << 30, 200
ENCRYPTED = 1
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")


def split(path: str) -> tuple[str, str | None]:
    """The archive and the member that a path or a pattern names; None where it names no member."""
    place = path.lower().find(MARK)
    return (path, None) if place < 0 else (path[: place + len(SUFFIX)], path[place + len(MARK) :])


def is_archive(path: str) -> bool:
    return path.lower().endswith(SUFFIX)


def members_of(raw: IO[bytes], path: str) -> list[zipfile.ZipInfo]:
    """The files in an archive, but hidden ones. Raises FileFailed, naming the archive, for one that is not read."""
    try:
        with zipfile.ZipFile(raw) as archive:
            all_files = [m for m in archive.infolist() if not m.is_dir()]
    except (zipfile.BadZipFile, NotImplementedError) as exc:
        raise FileFailed(path, "the archive is cut short or damaged; deliver it again") from exc
    # a path that leads upwards would count as hidden
    outside = next((m.filename for m in all_files if ".." in m.filename.replace("\\", "/").split("/")), None)
    members = [m for m in all_files if not is_hidden(m.filename)]
    if why := _leads_out(outside) if outside else _refused(members):
        raise FileFailed(path, why)
    return members


def _leads_out(name: str) -> str:
    return f"the archive holds {ascii(name)[:100]}, a name that leads out of it; rename it"


def _refused(members: list[zipfile.ZipInfo]) -> str | None:
    names = [m.filename for m in members]
    if any(m.flag_bits & ENCRYPTED for m in members):
        return "the archive is encrypted; deliver it without a password"
    if len(members) > MOST_MEMBERS:
        return f"the archive holds {len(members):,} files; deliver at most {MOST_MEMBERS:,} in one"
    unpacked, packed = sum(m.file_size for m in members), sum(m.compress_size for m in members)
    if unpacked > LARGE_BYTES and unpacked > LARGEST_RATIO * packed:
        return f"the archive unpacks to {unpacked >> 20:,} MB, more than {LARGEST_RATIO} times its size; deliver the files themselves"
    if nested := next((name for name in names if name.lower().endswith(ARCHIVES)), None):
        return f"the archive holds another one, {ascii(nested)[:100]}; deliver the files in it"
    for name in names:
        if not name.isprintable():
            return f"the archive holds a name with invisible characters, {ascii(name)[:100]}; rename it"
        if name.startswith("/"):
            return _leads_out(name)
    if len(set(names)) < len(names):
        return f"the archive holds {next(n for n in names if names.count(n) > 1)[:100]!r} twice; deliver each once"
    return None


def chosen_members(
    members: list[zipfile.ZipInfo], pattern: str | None, any_ending: bool
) -> tuple[list[str], list[str]]:
    """The names of the members that are read, and of the others. pattern: of a mapping that names members; any_ending: as in list_files."""
    names = [m.filename for m in members if pattern is None or fnmatchcase(m.filename, pattern)]
    data = [name for name in names if format_of(name) is not None]
    if any_ending and (pattern is not None or not data):
        data = names
    return data, [name for name in names if name not in set(data)]


def open_member(raw: IO[bytes], path: str, member: str | None) -> tuple[IO[bytes], str]:
    """The content of a member, and its name. member: None for the only one. Raises FileFailed where it cannot be read."""
    members = members_of(raw, path)
    if member is None and len(members) != 1:
        raise FileFailed(path, f"the archive holds {len(members)} files; deliver each in an archive of its own")
    chosen = next((m for m in members if member in (None, m.filename)), None)
    if chosen is None:
        raise FileFailed(path, f"the archive no longer holds {member!r}")
    try:
        # the archive is closed with its member
        return zipfile.ZipFile(raw).open(chosen), chosen.filename
    except NotImplementedError as exc:
        raise FileFailed(path, "the archive is compressed in a way that is not read; use deflate") from exc
