"""The published rows behind a number that is no metric's: a cell of a cohort, a stage of a funnel, a variant of an experiment, ..."""

from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from northstar.base.errors import NorthstarError
from northstar.use.marts import Marts
from northstar.warehouse.rows import Row

# {mart: the columns by which its rows are chosen}
MARTS = {
    "cohort_retention": ("cohort_kind", "application", "cohort_month", "months_since"),
    "funnel_stages": ("funnel", "application", "grain", "period_start", "stage_number"),
    "experiment_results": ("experiment", "variant", "application"),
    "churn_reasons": ("application", "month", "cancel_reason"),
    "user_paths": ("application", "month", "from_event", "to_event"),
    "mrr_bridge": ("grain", "period_start", "application", "segment", "segment_value"),
}
ROWS = 50
# how a column stands in an address where that is not as the session writes it
WRITTEN = {"period_start": "to_char(period_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') || '+00'"}


@dataclass(frozen=True)
class MartRows:
    """Rows of a mart, with what the mart and its columns are. columns: {name: description}; rows: at most ROWS of `count`."""

    mart: str
    description: str
    columns: dict[str, str]
    rows: list[Row]
    count: int


def rows_path(mart: str, **chosen: object) -> str:
    """The address of the rows of a mart in which these columns have these values; more can follow it after an &. Instants stand in it in UTC."""
    chosen = {
        n: f"{v.astimezone(UTC):%Y-%m-%d %H:%M:%S}+00" if isinstance(v, datetime) else v for n, v in chosen.items()
    }
    return f"/why/mart/{mart}?{urlencode(chosen)}"


def find_rows(marts: Marts, mart: str, chosen: dict[str, str]) -> MartRows:
    """The rows of a mart in which the chosen columns have the chosen values. Raises NorthstarError where there are none, or no such mart or column."""
    if mart not in MARTS:
        raise NorthstarError(f"there is no page for rows of {mart!r}; there is for {', '.join(MARTS)}")
    unknown = sorted(set(chosen) - set(MARTS[mart]))
    if unknown or not chosen:
        raise NorthstarError(f"rows of {mart} are chosen by {', '.join(MARTS[mart])}")
    described = marts.rows(
        "select coalesce(obj_description(c.oid, 'pg_class'), '') as mart, a.attname as name, coalesce(col_description(c.oid, a.attnum), '') as description "
        "from pg_class as c join pg_attribute as a on a.attrelid = c.oid where c.oid = to_regclass(%(mart)s) and a.attnum > 0 and not a.attisdropped "
        "order by a.attnum", mart=f"marts.{mart}",
    )  # fmt: skip
    names = [row["name"] for row in described if not row["name"].startswith("_")]
    condition = " and ".join(f"{WRITTEN.get(name, f'{name}::text')} = %({name})s" for name in chosen)
    rows = marts.rows(
        f"select {', '.join(names)}, count(*) over () as all_rows from {mart} where {condition} order by {', '.join(MARTS[mart])} limit {ROWS}",
        **chosen,
    )
    if not rows:
        raise NorthstarError(f"{mart} has no row with {', '.join(f'{n} {v}' for n, v in chosen.items())}")
    descriptions = {row["name"]: row["description"] for row in described}
    return MartRows(mart, described[0]["mart"], {n: descriptions[n] for n in names}, rows, rows[0]["all_rows"])
