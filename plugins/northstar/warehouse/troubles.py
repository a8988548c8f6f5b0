"""What is not as it should be, in words that are the same wherever somebody reads them: the newest audit's warnings, the open alerts, and what
the alerts do not know yet."""

from northstar.warehouse.rows import Connection, fetch_one

NAMED = 6


def newest_warnings(connection: Connection) -> list[str]:
    """The checks of level warn that did not hold in the newest audit."""
    rows = connection.execute(
        "select check_name, observed from audit.checks where run_id = (select max(run_id) from audit.checks) "
        "and not success and severity = 'warn' order by suite, check_name"
    ).fetchall()
    return [worded(r["check_name"], r["observed"]) for r in rows]


def worded(check_name: str, observed: str | None) -> str:
    """What a warning says."""
    return f"{check_name}: {observed}"


def open_alerts(connection: Connection) -> str | None:
    """How many alerts are open, and the first of them; None for none."""
    rows = connection.execute(
        "select severity, coalesce(nullif(metric_id, ''), rule) as what, application from audit.notices where closed_at is null "
        "order by severity, opened_at desc, key"
    ).fetchall()
    if not rows:
        return None
    named = ", ".join(f"{r['what']} ({r['application']}, {r['severity']})" for r in rows[:NAMED])
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return f"{len(rows)} open: {named}{more}"


def unusual_values(connection: Connection) -> str | None:
    """How many unusual values nobody has settled, and the newest of them; None for none."""
    # the home of an older release has no such table until its next run
    if fetch_one(connection.execute("select to_regclass('audit.unusual_values') as t"))["t"] is None:
        return None
    rows = connection.execute(
        "select entity || '.' || column_name || ': ' || what as what, count(*) over () as total from audit.unusual_values "
        "where closed_at is null order by finding_id desc limit 1"
    ).fetchall()
    if not rows:
        return None
    return f"{rows[0]['total']} to settle, the newest {rows[0]['what']}; `northstar values list`"


def unevaluated_run(connection: Connection) -> str | None:
    """That a run has ended since alerts were last evaluated; None where none has. Alerts say nothing of it until they are evaluated again."""
    run = connection.execute(
        "select run_id, state, message from audit.runs where finished_at > greatest(coalesce((select max(evaluated_at) from audit.alert_evaluations), "
        "'-infinity'), coalesce((select max(last_seen_at) from audit.notices), '-infinity')) order by run_id desc limit 1"
    ).fetchone()
    if run is None:
        return None
    why = f": {run['message']}" if run["message"] else ""
    if fetch_one(connection.execute("select to_regclass('marts.publications') as t"))["t"] is None:
        return f"none before the first published version; run {run['run_id']} {run['state']}{why}"
    return f"not evaluated since run {run['run_id']} {run['state']}{why}; `northstar alerts evaluate` does it"
