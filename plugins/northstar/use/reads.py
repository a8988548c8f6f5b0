"""The log of who read what: one line of JSON for each answer, in a file for each day (`logs/reads/`), kept for `keep_reads_days`.

It has what was asked, and nothing of the answer; of a person, the name that the proxy or provider gave. Tokens, signatures and keys are never in it. It is a
file, since readers may write nothing in the warehouse, which may be a replica.
"""

import logging
import os
from datetime import UTC, datetime, timedelta
from typing import Literal

import orjson

from northstar.base.escaping import make_visible
from northstar.base.settings import Settings

Way = Literal["pages", "api", "mcp"]
DIRECTORY = "reads"
# of what was asked
CHARACTERS = 500
LOG = logging.getLogger(__name__)


def note_read(settings: Settings, way: Way, who: str, role: str | None, what: str, version: int | None = None) -> None:
    """Log that somebody read something, where operations.yml says for how long that is kept. A log that cannot be written keeps nobody from reading."""
    if settings.operations.keep_reads_days is None:
        return
    now = datetime.now(UTC)
    line = {
        "at": f"{now:%Y-%m-%dT%H:%M:%S.%fZ}", "way": way, "who": make_visible(who), "role": role or "everything", "what": make_visible(what)[:CHARACTERS],
        "version": version,
    }  # fmt: skip
    try:
        directory = settings.logs / DIRECTORY
        directory.mkdir(mode=0o700, exist_ok=True)
        # several processes append to it: a line is one write
        file = os.open(directory / f"{now:%Y-%m-%d}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        finally:
            os.close(file)
    except OSError as exc:
        LOG.warning("the log of reads cannot be written: %s", exc.strerror)


def forget_reads(settings: Settings, now: datetime) -> int:
    """Delete the days that were kept long enough, and all where the log is off; returns how many."""
    days = settings.operations.keep_reads_days
    oldest = now.astimezone(UTC) - timedelta(days=days) if days is not None else None
    found = [
        path
        for path in (settings.logs / DIRECTORY).glob("*.jsonl")
        if oldest is None or path.stem < f"{oldest:%Y-%m-%d}"
    ]
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)
