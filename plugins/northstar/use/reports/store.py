"""Kept reports: `audit.reports` has each with the version that it was made from, and where it was sent."""

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.use.reports.make import Report
from northstar.warehouse import db
from northstar.warehouse.rows import Row, fetch_one


def store_report(settings: Settings, report: Report) -> int:
    """Store a report; returns its number. The same report of the same version keeps its number."""
    with db.connect(settings, "publisher") as connection:
        row = fetch_one(connection.execute(
            "insert into audit.reports (report, application, role, period_start, as_of, published_version, subject, html, text) "
            "values (%s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict (report, application, role, period_start, published_version) do update "
            "set subject = excluded.subject, html = excluded.html, text = excluded.text, made_at = clock_timestamp() returning report_id",
            [report.name, report.application, report.role or "", report.period_start, report.as_of, report.version, report.subject, report.standalone(), report.text],
        ))  # fmt: skip
    number: int = row["report_id"]
    return number


def record_sending(settings: Settings, report_id: int, outcomes: list[str]) -> None:
    """Record where a report was sent."""
    with db.connect(settings, "publisher") as connection:
        connection.execute(
            "update audit.reports set sent_to = sent_to || %s, sent_at = clock_timestamp() where report_id = %s",
            [outcomes, report_id],
        )


def list_reports(settings: Settings, name: str | None = None) -> list[Row]:
    """The kept reports without their bodies, newest first."""
    with db.connect(settings, "publisher") as connection:
        return connection.execute(
            "select report_id, report, application, role, period_start, as_of, published_version, subject, made_at, sent_at, sent_to "
            "from audit.reports where %(name)s::text is null or report = %(name)s order by report_id desc", {"name": name},
        ).fetchall()  # fmt: skip


def last_version(
    settings: Settings, name: str, application: str, period_start: object, role: str | None = None
) -> int | None:
    """The version of the newest report of its kind, for a role, about an earlier period than the one that begins at `period_start`."""
    with db.connect(settings, "publisher") as connection:
        row = fetch_one(
            connection.execute(
                "select max(published_version) as version from audit.reports where report = %s and application = %s and role = %s and period_start < %s",
                [name, application, role or "", period_start],
            )
        )
    newest: int | None = row["version"]
    return newest


def read_report(settings: Settings, report_id: int) -> tuple[str, str]:
    """The html and the text of a kept report. Raises NorthstarError where there is none of that number."""
    with db.connect(settings, "publisher") as connection:
        row = connection.execute("select html, text from audit.reports where report_id = %s", [report_id]).fetchone()
    if row is None:
        raise NorthstarError(f"no report {report_id}; `northstar report list` lists them")
    return row["html"], row["text"]
