"""`northstar status`: the state of a home in a few lines."""

from datetime import UTC, datetime

from northstar.base.clock import show_utc
from northstar.base.freshness import ALL, BY_HAND, Freshness, Judgement
from northstar.base.service_processes import service_states
from northstar.base.settings import Settings
from northstar.build.differences import upstream
from northstar.build.manifest import find_manifest
from northstar.publish import approval, hold
from northstar.warehouse import db, embedded, turn_lock
from northstar.warehouse.freshness import judge_freshness
from northstar.warehouse.rows import Connection, fetch_one
from northstar.warehouse.troubles import newest_warnings, open_alerts, unevaluated_run, unusual_values


def status(settings: Settings) -> str:
    """The home's state in a few lines: published version, checks, the last run, who has the turn, late sources, quarantine, open alerts, warnings."""
    if not settings.warehouse_url and not embedded.is_running(settings):
        return f"Postgres of {settings.home} is not running; `make run` or `northstar run` starts it"
    lines = []
    with db.connect(settings, "transformer") as connection:
        publications_table = fetch_one(connection.execute("select to_regclass('marts.publications') as t"))["t"]
        newest_publication = (
            publications_table
            and connection.execute(
                "select * from marts.publications order by published_version desc limit 1"
            ).fetchone()
        )
        if newest_publication:
            lines.append(
                f"published   version {newest_publication['published_version']} at {newest_publication['published_at'].astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, "
                f"as of {show_utc(newest_publication['as_of'])}, {newest_publication['checks_passed']} of {newest_publication['checks_run']} checks passed"
            )
        else:
            lines.append("published   nothing yet")
        run = connection.execute("select * from audit.runs order by run_id desc limit 1").fetchone()
        if run:
            lines.append(f"last run    {run['run_id']} ({run['mode']}, {run['trigger']}): {run['state']}"
                         + (f", {run['message']}" if run["message"] else f", stage {run['stage']}"))  # fmt: skip
        writer = turn_lock.current_turn(connection)
        writing = f"run {writer['run_id']} ({writer['holder']})" if writer and not writer["is_over"] else "nobody"
        lines.append(f"writing     {writing}")
        if hold_text := hold.describe_hold(connection):
            lines.append(f"held        {hold_text}")
        if waiting_text := approval.describe_pending_approval(connection):
            lines.append(f"approval    {waiting_text}")
        rows = connection.execute(
            "select source, message from (select distinct on (source) * from audit.source_runs order by source, run_id desc) as last "
            "where not succeeded order by 1"
        ).fetchall()
        lines += [f"late        {r['source']}: {r['message']}" for r in rows]
        if newest_publication:
            lines += _freshness_lines(settings, connection)
        rejected_counts = connection.execute(
            "select entity, count(*) as rows from quarantine.rows where resolved_at is null group by entity order by 2 desc"
        ).fetchall()
        rejected_total = sum(r["rows"] for r in rejected_counts)
        detail = ", ".join(f"{r['entity']} {r['rows']}" for r in rejected_counts[:6])
        lines.append(f"quarantine  {rejected_total} rows" + (f" ({detail})" if detail else ""))
        # the home of an older release has no such table until its next run
        has_list = fetch_one(connection.execute("select to_regclass('audit.unread_files') as t"))["t"] is not None
        rows = (
            connection.execute("select path from audit.unread_files order by source, entity, path").fetchall()
            if has_list
            else []
        )
        if rows:
            more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
            lines.append(f"not read    {', '.join(r['path'] for r in rows[:5])}{more}: files of no format that is read")
        if alerts := open_alerts(connection):
            lines.append(f"alerts      {alerts}")
        if unevaluated := unevaluated_run(connection):
            lines.append(f"alerts      {unevaluated}")
        lines += [f"warning     {warning}" for warning in newest_warnings(connection)]
        if unusual := unusual_values(connection):
            lines.append(f"values      {unusual}")
    return "\n".join(lines)


def judge_promises(settings: Settings, connection: Connection, now: datetime) -> list[Judgement]:
    """The judgement of each freshness promise of the home, or, where it has promised nothing and no scheduler serves it, of a run a day."""
    promises = settings.operations.freshness
    is_by_hand = promises == Freshness() and not service_states(settings).get("scheduler")
    return judge_freshness(connection, BY_HAND if is_by_hand else promises, now)


def _freshness_lines(settings: Settings, connection: Connection) -> list[str]:
    judgements = judge_promises(settings, connection, datetime.now(UTC))
    late = [judgement for judgement in judgements if judgement.is_late]
    kept = len(judgements) - len(late)
    lines = [f"freshness   {kept} of {len(judgements)} promises kept"]
    for judgement in late:
        lines.append(f"late        {judgement.describe()}")
        if judgement.kind == "mart" and (behind := _sources_behind(settings, connection, judgement.name)):
            lines.append(f"            made of {behind}")
    return lines


def _sources_behind(settings: Settings, connection: Connection, mart: str) -> str:
    """The sources that a mart (or ALL of them) is made of, and when each had something new last, the one that is longest ago first."""
    entities = None
    if mart != ALL:
        version = fetch_one(
            connection.execute("select code_version from marts.publications order by published_version desc limit 1")
        )
        manifest = find_manifest(settings, version["code_version"])
        if manifest is None:
            return ""
        nodes = manifest["nodes"].items()
        # a mart's name, or that of a model that it is a part of
        models = [i for i, node in nodes if mart in (node["alias"], (node["config"].get("meta") or {}).get("mart"))]
        above = set[str]().union(*(upstream(manifest, model) for model in models))
        entities = [name.rsplit(".", 1)[1] for name in above if name.startswith("source.")]
    rows = connection.execute(
        "select source, max(finished_at) as at from audit.landing_batches where rows_inserted + rows_updated > 0 "
        "and (%(entities)s::text[] is null or entity = any(%(entities)s)) group by source order by at, source",
        {"entities": entities},
    ).fetchall()
    return ", ".join(f"{row['source']} (new rows landed last {show_utc(row['at'])})" for row in rows)
