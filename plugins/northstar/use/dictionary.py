"""The data dictionary: every table and column of `marts` with the description that its database comment holds, as a page."""

from itertools import groupby
from operator import itemgetter

from northstar.base.settings import Settings
from northstar.use.alerts.table import OPEN_ALERTS
from northstar.use.anomalies.table import ANOMALIES
from northstar.use.forecasts import TABLES
from northstar.warehouse import db


def data_dictionary(settings: Settings) -> str:
    """The page, in Markdown."""
    with db.connect(settings, "bi_reader") as connection:
        rows = connection.execute(
            "select c.relname as table_name, obj_description(c.oid) as about, a.attname as column_name, format_type(a.atttypid, a.atttypmod) as type, "
            "col_description(c.oid, a.attnum) as description from pg_class as c join pg_attribute as a on a.attrelid = c.oid "
            "where c.relnamespace = 'marts'::regnamespace and c.relkind in ('r', 'v') and a.attnum > 0 and not a.attisdropped order by c.relname, a.attnum"
        ).fetchall()
    lines = [
        "# Data dictionary",
        "",
        "Every table and column of the schema `marts`, for those who query it. The texts are the database comments; `tests/use/test_dictionary.py` generates this page.",
        "",
    ]
    # these tables are made after a publication, and may not exist yet
    for table in (*TABLES, OPEN_ALERTS, ANOMALIES):
        rows = [r for r in rows if r["table_name"] != table.name]
        rows += [
            {
                "table_name": table.name,
                "about": table.about,
                "column_name": name,
                "type": kind.removesuffix(" not null"),
                "description": text,
            }
            for name, (kind, text) in table.columns.items()
        ]
    rows.sort(key=itemgetter("table_name"))
    for name, group in groupby(rows, key=itemgetter("table_name")):
        columns = list(group)
        lines += [f"## {name}", "", columns[0]["about"] or "", "", "| column | type | |", "|---|---|---|"]
        for column in columns:
            text = column["description"] or (
                "the version in which the row was published" if column["column_name"] == "_version" else ""
            )
            description = " ".join(text.split()).replace("|", "\\|")
            lines.append(f"| `{column['column_name']}` | {column['type']} | {description} |")
        lines.append("")
    return "\n".join(lines)
