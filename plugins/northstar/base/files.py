"""The files in which a home keeps its state: written completely or not at all, readable for their owner only; an incomplete file counts as missing."""

import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

END_BYTES = 1 << 20


def write_private(path: Path, content: str | bytes) -> None:
    """Write a file completely or not at all, even if the power fails. At no moment can others read it.

    Raises OSError when it cannot be written; then the file is as it was.
    """
    _remove_interrupted(path)
    # each writer has a file of its own, so that two that write at once do not disturb each other
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content.encode() if isinstance(content, str) else content)
            handle.flush()
            # a power cut may otherwise leave the new name with nothing in it
            os.fsync(handle.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Write the names in a directory through to the disk, so that they survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Any: only the code that writes a file of state knows what it holds
def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file of state; None if there is no such file, or it is empty, cut short or something else."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def read_end(path: Path) -> str:
    """The last END_BYTES of a log, which may be larger than memory; '' if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - END_BYTES))
            return file.read(END_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return ""


def read_word(path: Path) -> str | None:
    """The one line in a file of state; None if there is no such file, or it is empty or no text."""
    try:
        return path.read_text().strip() or None
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def _remove_interrupted(path: Path) -> None:
    """Remove the unfinished files of writers of this file that were killed."""
    for leftover in path.parent.glob(f".{path.name}.*.new"):
        writer = leftover.name[len(path.name) + 2 :].partition("-")[0]
        if not writer.isdigit() or not psutil.pid_exists(int(writer)):
            with suppress(FileNotFoundError):
                leftover.unlink()
