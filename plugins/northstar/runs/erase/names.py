"""The identifiers of an erasure: as SQL conditions, and as words to search texts for."""

import re
from collections.abc import Iterable

import psycopg

from northstar.privacy.subjects import ACCOUNT, ANONYMOUS, PERSON_COLUMNS, SESSION
from northstar.warehouse.rows import Connection, Parameters

EMAIL, TICKET = "email", "ticket"


class Names:
    """The identifiers of an erasure. values: the parameters of the SQL; text_replacements: (name, replacement) to look for in texts."""

    def __init__(self, connection: Connection, erasure_id: int):
        rows = connection.execute("select * from audit.erasure_ids where erasure_id = %s", [erasure_id]).fetchall()
        self.values: Parameters = {"erasure": erasure_id}
        for kind in (ACCOUNT, ANONYMOUS, SESSION, EMAIL, TICKET):
            self.values[kind] = [r["value"] for r in rows if r["kind"] == kind]
        self.values["replacements"] = [r["replacement"] for r in rows if r["kind"] == ACCOUNT]
        # an identifier such as 42 or basic can mean anything in a text: only distinctive ones are looked for there
        distinctive_rows = [r for r in rows if r["kind"] in (ACCOUNT, ANONYMOUS) and is_distinctive(r["value"])]
        self.text_replacements = [(r["value"], r["replacement"]) for r in distinctive_rows] + [
            (v, "erased") for v in self.values[EMAIL]
        ]

    def replacement_sql(self, column: str, expression: str) -> str:
        """SQL: the replacement of an identifier in a column that names somebody; the value itself if it has no replacement."""
        return (
            f"coalesce((select i.replacement from audit.erasure_ids as i where i.erasure_id = %(erasure)s "
            f"and i.kind in ({quote_list(PERSON_COLUMNS[column])}) and i.value = {expression} limit 1), {expression})"
        )

    def is_subject_sql(self, column: str, expression: str) -> str:
        """SQL: whether a column names the subject."""
        return "(" + " or ".join(f"{expression} = any(%({kind})s)" for kind in PERSON_COLUMNS[column]) + ")"

    def is_in_text_sql(self, expression: str) -> str:
        """SQL: whether a text holds one of the names."""
        return "(" + " or ".join(f"strpos({expression}, {sql_literal(v)}) > 0" for v, _ in self.text_replacements) + ")"

    def cleaned_text_sql(self, expression: str) -> str:
        """SQL: the text with the names replaced wherever they are whole words."""
        for value, replacement in self.text_replacements:
            pattern = rf"(^|[^A-Za-z0-9_-]){re.escape(value)}(?![A-Za-z0-9_-])"
            expression = (
                f"regexp_replace({expression}, {sql_literal(pattern)}, {sql_literal(chr(92) + '1' + replacement)}, 'g')"
            )
        return expression


def is_distinctive(value: str) -> bool:
    return len(value) >= 16 or (len(value) >= 6 and any(map(str.isdigit, value)) and any(map(str.isalpha, value)))


def quote_list(values: Iterable[str]) -> str:
    return ", ".join(f"'{v}'" for v in values)


def sql_literal(text: str) -> str:
    # psycopg reads per cent signs as placeholders
    return psycopg.sql.Literal(text).as_string(None).replace("%", "%%")
