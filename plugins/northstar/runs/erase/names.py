"""The identifiers of an erasure: as SQL conditions, and as words to search texts for."""

import re
from collections.abc import Iterable

import psycopg

from northstar.privacy.subjects import ACCOUNT, ANONYMOUS, NAMED, SESSION
from northstar.warehouse.rows import Connection, Parameters

EMAIL, TICKET = "email", "ticket"


class Names:
    """The identifiers of an erasure. values: the parameters of the SQL; in_texts: (name, replacement) to look for in texts."""

    def __init__(self, connection: Connection, erasure_id: int):
        rows = connection.execute("select * from audit.erasure_ids where erasure_id = %s", [erasure_id]).fetchall()
        self.values: Parameters = {"erasure": erasure_id}
        for kind in (ACCOUNT, ANONYMOUS, SESSION, EMAIL, TICKET):
            self.values[kind] = [r["value"] for r in rows if r["kind"] == kind]
        self.values["replacements"] = [r["replacement"] for r in rows if r["kind"] == ACCOUNT]
        # an identifier such as 42 or basic can mean anything in a text: only distinctive ones are looked for there
        distinctive_rows = [r for r in rows if r["kind"] in (ACCOUNT, ANONYMOUS) and is_distinctive(r["value"])]
        self.in_texts = [(r["value"], r["replacement"]) for r in distinctive_rows] + [
            (v, "erased") for v in self.values[EMAIL]
        ]

    def renamed(self, column: str, expression: str) -> str:
        """SQL: the replacement of an identifier in a column that names somebody; the value itself if it has no replacement."""
        return (
            f"coalesce((select i.replacement from audit.erasure_ids as i where i.erasure_id = %(erasure)s "
            f"and i.kind in ({quoted(NAMED[column])}) and i.value = {expression} limit 1), {expression})"
        )

    def names(self, column: str, expression: str) -> str:
        """SQL: whether a column names the subject."""
        return "(" + " or ".join(f"{expression} = any(%({kind})s)" for kind in NAMED[column]) + ")"

    def in_text(self, expression: str) -> str:
        """SQL: whether a text holds one of the names."""
        return "(" + " or ".join(f"strpos({expression}, {literal(v)}) > 0" for v, _ in self.in_texts) + ")"

    def without(self, expression: str) -> str:
        """SQL: the text with the names replaced wherever they are whole words."""
        for value, replacement in self.in_texts:
            pattern = rf"(^|[^A-Za-z0-9_-]){re.escape(value)}(?![A-Za-z0-9_-])"
            expression = (
                f"regexp_replace({expression}, {literal(pattern)}, {literal(chr(92) + '1' + replacement)}, 'g')"
            )
        return expression


def is_distinctive(value: str) -> bool:
    return len(value) >= 16 or (len(value) >= 6 and any(map(str.isdigit, value)) and any(map(str.isalpha, value)))


def quoted(values: Iterable[str]) -> str:
    return ", ".join(f"'{v}'" for v in values)


def literal(text: str) -> str:
    # psycopg reads per cent signs as placeholders
    return psycopg.sql.Literal(text).as_string(None).replace("%", "%%")
