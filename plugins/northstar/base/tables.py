"""Rows as text with aligned columns, for people."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal


def table(rows: Sequence[Mapping[str, object]], names: list[str] | None = None) -> str:
    """Rows as aligned text; '(no rows)' for none."""
    if not rows:
        return "(no rows)"
    names = names or list(rows[0])
    cells = [[_short_text(row[n]) for n in names] for row in rows]
    widths = [max(len(name), *(len(row[i]) for row in cells)) for i, name in enumerate(names)]
    lines = ["  ".join(name.ljust(width) for name, width in zip(names, widths, strict=True)).rstrip()]
    lines.append("  ".join("-" * width for width in widths))
    lines += ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(lines)


def markdown_table(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """The lines of a table in Markdown; there is at least one row."""
    names = list(rows[0])

    def cell(value: object) -> str:
        return plain_text(value).replace("|", "\\|")

    return [
        f"| {' | '.join(names)} |", f"|{'---|' * len(names)}",
        *(f"| {' | '.join(cell(row[name]) for name in names)} |" for row in rows),
    ]  # fmt: skip


def _short_text(value: object) -> str:
    return plain_text(value)[:80]


def plain_text(value: object) -> str:
    """A value in one line, without trailing zeros."""
    if isinstance(value, Decimal) and value.is_finite():
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return "" if value is None else str(printable_value(value)).replace("\n", " ")


def printable_value(value: object) -> object:
    """A value from Postgres as text, or unchanged if it prints well."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, dict | list):
        return json.dumps(value, default=str)
    return value
