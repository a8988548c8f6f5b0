"""The home's last preview as the pages show it: what `northstar preview` found, without values of segments and without rows.

A preview's values are not published, and not audited. The pages' readers see those of whole applications; where the home withholds small groups, none.
"""

import json
from typing import TypedDict

from northstar.base.files import read_json, write_private
from northstar.base.settings import Settings
from northstar.warehouse.rows import as_shape

FILE = "last_preview.json"


class Section(TypedDict):
    """A table of a preview: its title, and its rows as texts by column."""

    title: str
    rows: list[dict[str, str]]


class KeptPreview(TypedDict):
    """A preview as it is kept. version: the published one that it stands beside; previewed_at: the time in UTC, as text."""

    version: int
    previewed_at: str
    headline: str
    sections: list[Section]


def keep_preview(settings: Settings, content: KeptPreview) -> None:
    """Keep a preview in place of the one before."""
    write_private(settings.home / FILE, json.dumps(content, ensure_ascii=False))


def kept_preview(settings: Settings) -> KeptPreview | None:
    """The last preview that was kept; None if there is none."""
    path = settings.home / FILE
    kept = read_json(path) if path.exists() else None
    return None if kept is None else as_shape(KeptPreview, kept)
