"""The command line. Errors are one line; `--debug` shows their chain."""

import argparse
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from northstar.collector import end_soon
from northstar.errors import NorthstarError, lacking, refused
from northstar.escaping import exact_output, visible_output
from northstar.settings import kept_private, load_settings


@kept_private()
@visible_output()
def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status. Without `argv` it is the process's own, which ends with it."""
    if argv is None:
        end_soon()
    arguments = _parser().parse_args(argv)
    _own_options(arguments)
    try:
        status = arguments.command(arguments) or 0
        sys.stdout.flush()
        return status
    except NorthstarError as exc:
        if arguments.debug:
            raise
        print(f"northstar: {exc}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # the reader had enough (`| head`); what is left to write goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as exc:
        told = lacking(exc) or refused(exc)
        if arguments.debug or not told:
            raise
        print(f"northstar: {told}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("northstar: interrupted; the next run starts where this one was published", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--home",
        help="directory with all state (default: NORTHSTAR_HOME, or .northstar in the checkout, or ~/.northstar without one)",
    )
    common.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    parser = argparse.ArgumentParser(prog="northstar", description="A metrics warehouse that can be trusted.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name, function, text):
        sub = commands.add_parser(name, parents=[common], help=text, description=text)
        sub.set_defaults(command=function)
        return sub

    sub = command("run", _run, "one run of the job in this process; exit status 0 only when a version was published")
    sub.add_argument(
        "--source-dir", help="directory or fsspec URL with one folder for each entity (beside the declared sources)"
    )
    sub.add_argument(
        "--mapping",
        help="a YAML file that says how a foreign layout becomes contract entities (default: it is the contract's)",
    )
    sub.add_argument("--as-of", help="logical time, exclusive, such as 2025-04-01T00:00:00Z (default: this hour)")
    sub.add_argument("--mode", choices=("nightly", "hourly"), default="nightly")
    command("dashboard", _dashboard, "serve the pages in the foreground (`make run` starts them as well)")
    sub = command(
        "report", _report, "make a report of what is published, keep it, and say it; --send sends it on its route"
    )
    sub.add_argument(
        "report", help="daily, weekly, monthly, quarterly or annual; list: the kept ones; or the number of a kept one"
    )
    sub.add_argument(
        "--as-of", help="the report of the last period that was over then (default: that of the newest version)"
    )
    sub.add_argument("--application", default="all", help="of one application (default: all)")
    sub.add_argument("--html", metavar="FILE", help="write the report as a page that holds everything")
    sub.add_argument("--send", action="store_true", help="send it as the home's notify.yml says")
    sub = command("alerts", _alerts, "what is wrong now: list, ack, mute, evaluate")
    sub.add_argument("what", choices=("list", "ack", "mute", "evaluate"))
    sub.add_argument("id", nargs="?", help="of the alert, as list names it")
    sub.add_argument("--all", action="store_true", help="list: the closed ones too")
    sub.add_argument("--by", default=os.environ.get("USER", "somebody"), help="ack: who is at it (default: you)")
    sub.add_argument("--hours", type=float, default=8, help="mute: for how long (default: 8)")
    command("forecast", _forecast, "forecast the level 1 and 2 metrics anew, where their values have changed")
    sub = command("airflow", _airflow, "Airflow's own command line in this home's environment")
    sub.add_argument("words", nargs=argparse.REMAINDER, help="such as: backfill create --dag-id nightly_rebuild ...")
    sub = command("mf", _mf, "MetricFlow's own command line on the published marts, as bi_reader")
    sub.add_argument(
        "words", nargs=argparse.REMAINDER, help="such as: query --metrics mrr --group-by metric_time__month"
    )
    sub = command("backfill", _backfill, "read a range of a source's past again, rebuild exactly its periods, publish")
    sub.add_argument(
        "--from", dest="start", required=True, metavar="TIME", help="the range's start, such as 2025-01-01"
    )
    sub.add_argument("--to", dest="end", required=True, metavar="TIME", help="the range's end, exclusive")
    sub.add_argument("--reason", required=True, help="why: it is kept in the journal, audit.backfills")
    sub.add_argument("--source", action="append", metavar="NAME", help="only this declared source (may be repeated)")
    sub.add_argument("--source-dir", help="read this directory again as well")
    sub.add_argument("--mapping", help="as for run")
    sub.add_argument("--no-reading", action="store_true", help="read nothing: rebuild from what has landed")
    sub.add_argument("--by", default=os.environ.get("USER", "somebody"), help="who asks (default: you)")
    command(
        "maintain",
        _maintain,
        "prune what is kept long enough and clean up, as the nightly run does after its publication",
    )
    sub = command(
        "unlock",
        _unlock,
        "end the turn of a run on which nobody works any more, such as that of a DAG run which Airflow has forgotten",
    )
    sub.add_argument("run", type=int, help="its number, as `northstar status` tells it")
    command(
        "setup",
        _setup,
        "make the warehouse's roles, grants, tables and indexes what they should be (a run does so when a version has changed)",
    )
    command("doctor", _doctor, "look this home over: what is wrong, and what to do; exit status 1 when something is")
    sub = command("backup", _backup, "copy this home, while it works, into a new directory")
    sub.add_argument("--to", required=True, type=Path, metavar="DIR", help="a directory that is new or empty")
    sub.add_argument(
        "--secrets", type=Path, metavar="FILE", help="write the secrets to this file, to be kept elsewhere"
    )
    sub = command("restore", _restore, "make a new home (--home) from a backup")
    sub.add_argument("--from", dest="source", required=True, type=Path, metavar="DIR", help="the backup")
    sub.add_argument(
        "--to-time", metavar="TIME", help="a moment after the backup, or `latest` (default: the backup's own)"
    )
    sub.add_argument("--secrets", type=Path, metavar="FILE", help="the secrets of the home that was backed up")
    sub.add_argument(
        "--archive", type=Path, metavar="DIR", help="where its write-ahead log is archived, if not where it was"
    )
    command("stop", _stop, "stop this home's Postgres and services")
    sub = command("sql", _sql, "read the published marts as the read-only BI role")
    sub.add_argument("query")
    sub.add_argument("--format", choices=("csv", "table", "json"), default="table")
    sub.add_argument(
        "--version", type=int, metavar="N", help="read the marts (by their bare names) as they were at version N"
    )
    sub = command("explain", _explain, "a published value: its definition, its SQL, and the rows that add up to it")
    sub.add_argument("metric")
    sub.add_argument("--period", help="the period's start, such as 2025-03-01 (default: the newest complete one)")
    sub.add_argument(
        "--grain", choices=("hour", "day", "week", "month", "quarter"), help="default: month, or what there is"
    )
    sub.add_argument("--application", default="all")
    sub.add_argument("--segment", metavar="NAME=VALUE", help="such as plan_tier=pro")
    sub.add_argument("--rows", type=int, default=8, help="how many of the rows to show (default: 8)")
    sub.add_argument("--format", choices=("text", "json"), default="text")
    sub = command("sources", _sources, "the declared sources: list them, check their connections, look at their rows")
    sub.add_argument("action", choices=("list", "check", "preview"))
    sub.add_argument("name", nargs="?", help="a source; for check the default is all")
    sub.add_argument("entity", nargs="?", help="for preview")
    sub.add_argument("--rows", type=int, default=5, help="how many rows to preview (default: 5)")
    command("status", _status, "the published version, what runs now, what is in quarantine, what is late")
    sub = command("rollback", _rollback, "put an earlier published version back")
    sub.add_argument("--to", type=int, metavar="VERSION", help="the version to put back (default: the one before)")
    sub.add_argument("--hold", metavar="WHY", help="publish nothing after it until `northstar hold --end`")
    sub = command(
        "hold", _hold, "keep runs from publishing, for a reason, until it ends; they land, build and audit as ever"
    )
    sub.add_argument("--because", default="", help="why; each run that is held repeats it")
    sub.add_argument("--end", action="store_true", help="end it: the next run publishes")
    sub.add_argument("--by", help="who says so (default: who is logged in)")
    sub = command(
        "verify", _verify, "make a published version again from the landed rows and compare it with its certificate"
    )
    sub.add_argument("--version", type=int, metavar="N", help="default: the newest")
    sub = command(
        "quarantine",
        _quarantine,
        "rejected rows: list them, show one, read them again after a fix, or accept that they are missing",
    )
    sub.add_argument("action", choices=("list", "show", "replay", "accept"))
    sub.add_argument("id", nargs="?", type=int, help="a row's number, for show")
    sub.add_argument("--entity", help="only this entity")
    sub.add_argument("--because", default="", help="accept: why they may be missing; certificates repeat it")
    sub.add_argument("--by", help="accept: who says so (default: who is logged in)")
    sub.add_argument(
        "--unseal", action="store_true", help="show: personal values as they were delivered, with this home's key"
    )
    sub = command(
        "erase", _erase, "erase one subject from every schema, history and quarantine included; prints the certificate"
    )
    sub.add_argument("--account-id", help="the account, or - to read it from standard input")
    sub.add_argument(
        "--email",
        help="- reads the address from standard input, hashes it and keeps it nowhere; none is taken from a command line",
    )
    sub.add_argument("--by", default=os.environ.get("USER", "somebody"), help="who asks (default: you)")
    sub.add_argument("--later", action="store_true", help="only note it: the DAG erase_subject carries it out")
    sub.add_argument("--pending", action="store_true", help="carry out what was noted or left half done")
    command("rotate-key", _rotate_key, "give the identifiers' hashes a new key: old and new rows still join")
    sub = command("simulate", _simulate, "write the demonstration company's source files")
    sub.add_argument("--out", required=True, type=Path)
    sub.add_argument("--seed", type=int, default=1)
    sub.add_argument("--months", type=int, default=12)
    sub.add_argument("--accounts", type=int, default=2000)
    sub.add_argument("--applications", nargs="+")
    return parser


def _own_options(arguments) -> None:
    """Take --home from among the words that another program's command line is handed."""
    words = getattr(arguments, "words", [])
    if "--home" in words[:-1]:
        place = words.index("--home")
        arguments.home = words[place + 1]
        del words[place : place + 2]


def progress(text: str) -> None:
    """A line on standard error, with the time, so that standard output stays the result's."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


def parse_time(text: str | None) -> datetime:
    """A timestamp with a zone (or a date: its UTC midnight); None is the current hour.

    Raises NorthstarError for anything else.
    """
    if text is None:
        return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise NorthstarError(f"{text!r} is not a time; write it like 2025-04-01T00:00:00Z") from exc
    if moment.tzinfo is None:
        if "T" in text or " " in text:
            raise NorthstarError(f"{text!r} has no time zone; write it like 2025-04-01T00:00:00Z")
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)


def _run(arguments) -> None:
    from northstar import job
    from northstar.headline import print_headline

    settings = load_settings(arguments.home)
    version = job.run(
        settings, arguments.mode, parse_time(arguments.as_of), arguments.source_dir, progress, arguments.mapping
    )
    progress(f"published version {version}")
    print_headline(settings)


def _dashboard(arguments) -> None:
    from northstar import embedded
    from northstar.dashboards import serve

    settings = load_settings(arguments.home)
    if serve.answers(settings):
        print(f"the pages are there already: {serve.link(settings)}")
        return
    if not settings.warehouse_url:
        embedded.ensure_running(settings)
    command = serve.command(settings)
    if warning := serve.in_clear():
        print(f"northstar: {warning}", file=sys.stderr)
    print(f"the pages: {serve.link(settings)}   (Ctrl-C ends them)", flush=True)
    os.execve(command[0], command, serve.environment(settings))


def _report(arguments) -> None:
    from northstar.reports import kept
    from northstar.reports.send import make_and_keep, send
    from northstar.reports.store import body

    settings = load_settings(arguments.home)
    if arguments.report == "list":
        from northstar.reading import table

        rows = kept(settings)
        print(table(rows) if rows else "no report was made yet")
        return
    if arguments.report.isdigit():
        html, text = body(settings, int(arguments.report))
    else:
        report_id, report = make_and_keep(
            settings, arguments.report, parse_time(arguments.as_of) if arguments.as_of else None, arguments.application
        )
        html, text = report.standalone(), report.text
    if arguments.html:
        Path(arguments.html).write_text(html)
        progress(f"written to {arguments.html}")
    else:
        print(text)
    if arguments.send and not arguments.report.isdigit():
        told = send(settings, report_id, report)
        progress(
            f"sent: {', '.join(told)}"
            if told
            else f"notify.yml names no route for the report {report.name}: it was kept only"
        )


def _alerts(arguments) -> None:
    from northstar.alerts import acknowledge, evaluate, listed, mute
    from northstar.reading import table

    settings = load_settings(arguments.home)
    if arguments.what in ("ack", "mute") and not arguments.id:
        raise NorthstarError(f"say which: northstar alerts {arguments.what} ID; `northstar alerts list` names them")
    if arguments.what == "list":
        rows = listed(settings, arguments.all)
        print(table(rows) if rows else "nothing is wrong")
    elif arguments.what == "ack":
        acknowledge(settings, arguments.id, arguments.by)
    elif arguments.what == "mute":
        mute(settings, arguments.id, arguments.hours)
    else:
        evaluate(settings, progress=progress)


def _forecast(arguments) -> None:
    from northstar.forecasts import forecast_metrics

    forecast_metrics(load_settings(arguments.home), progress)


def _airflow(arguments) -> int:
    from northstar.orchestration.services import airflow_env

    executable = Path(sys.executable).parent / "airflow"
    return subprocess.run([executable, *arguments.words], env=airflow_env(load_settings(arguments.home))).returncode


def _mf(arguments) -> int:
    from northstar.semantic import metricflow

    return metricflow(load_settings(arguments.home), arguments.words).returncode


def _backfill(arguments) -> None:
    from northstar.backfill import backfill

    version = backfill(
        load_settings(arguments.home), parse_time(arguments.start), parse_time(arguments.end), arguments.reason, arguments.by,
        sources=arguments.source, source_dir=arguments.source_dir, mapping=arguments.mapping,
        with_reading=not arguments.no_reading, progress=progress,
    )  # fmt: skip
    progress(f"published version {version}")


def _maintain(arguments) -> None:
    from northstar.lease import turn
    from northstar.maintenance import maintain

    settings = load_settings(arguments.home)
    with turn(settings, "maintain"):
        maintain(settings, progress=progress)


def _unlock(arguments) -> None:
    from northstar.lease import unlock

    progress(f"the turn of run {arguments.run} ({unlock(load_settings(arguments.home), arguments.run)}) has ended")


def _setup(arguments) -> None:
    from northstar.warehouse import bootstrap

    bootstrap(load_settings(arguments.home), is_forced=True)


def _doctor(arguments) -> int:
    from northstar.doctor import examine

    wrong = 0
    for finding in examine(load_settings(arguments.home)):
        wrong += finding.is_wrong
        print(finding, flush=True)
    print(
        f"{wrong} things are wrong" if wrong else "nothing is wrong",
        "(`northstar status` says what is published and what runs)",
    )
    return 1 if wrong else 0


def _backup(arguments) -> None:
    from northstar.embedded.backup import backup

    about = backup(load_settings(arguments.home), arguments.to.resolve(), arguments.secrets, progress)
    place = f"in {arguments.secrets}" if arguments.secrets else "not in it: keep the home's secrets.json elsewhere"
    print(
        f"version {about['published_version'] or 'none'} and all before it are in {arguments.to} ({about['bytes'] / 2**20:,.0f} MB, verified); "
        f"the secrets are {place}"
    )


def _restore(arguments) -> None:
    from northstar.embedded.backup import LATEST, restore

    settings = load_settings(arguments.home)
    at = arguments.to_time if arguments.to_time in (None, LATEST) else parse_time(arguments.to_time)
    archive = arguments.archive and arguments.archive.resolve()
    version = restore(arguments.source.resolve(), settings, at, arguments.secrets, archive, progress)
    print(f"{settings.home} is restored, published version {version or 'none'}; `northstar doctor` looks it over")


def _stop(arguments) -> None:
    from northstar import embedded
    from northstar.orchestration.services import stop_services

    settings = load_settings(arguments.home)
    stopped = stop_services(settings)
    if embedded.stop(settings):
        stopped = [*stopped, "postgres"]
    print("stopped " + ", ".join(stopped) if stopped else "nothing was running")


def _sql(arguments) -> None:
    from northstar.reading import asked, write

    out = sys.stdout if arguments.format == "table" else exact_output()
    with asked(load_settings(arguments.home), arguments.query, arguments.version) as (names, rows):
        write(names, rows, arguments.format, out)


def _explain(arguments) -> int:
    from northstar.explain import explain
    from northstar.explain.text import as_json, as_text

    name, equals, value = (arguments.segment or "").partition("=")
    if arguments.segment and not (name and equals):
        raise NorthstarError(f"{arguments.segment!r} is not a segment; write it like plan_tier=pro")
    if arguments.rows < 1:
        raise NorthstarError("--rows wants a number of 1 or more")
    explanation = explain(
        load_settings(arguments.home), arguments.metric, parse_time(arguments.period) if arguments.period else None,
        arguments.grain, arguments.application, name, value, arguments.rows,
    )  # fmt: skip
    print(as_json(explanation) if arguments.format == "json" else as_text(explanation))
    return 0 if explanation.adds_up else 1


def _sources(arguments) -> int:
    from northstar.landing.sources import preview, source_report
    from northstar.reading import table
    from northstar.sources.declared import open_source, read_sources
    from northstar.warehouse import bootstrap

    settings = load_settings(arguments.home)
    declared = read_sources(settings)
    if not declared:
        raise NorthstarError(
            f"no source is declared; docs/add_a_source.md shows how, in {settings.config / 'sources.yml'}"
        )
    if arguments.name and arguments.name not in declared:
        raise NorthstarError(f"no source {arguments.name!r}; declared are {', '.join(declared)}")
    if arguments.action == "list":
        bootstrap(settings)
        print(table(source_report(settings, declared)))
        return 0
    if arguments.action == "preview":
        if not arguments.name or not arguments.entity:
            raise NorthstarError("preview what? give a source and an entity: northstar sources preview billing charges")
        print(preview(settings, declared[arguments.name], arguments.entity, arguments.rows))
        return 0
    failed = 0
    for name in [arguments.name] if arguments.name else declared:
        try:
            print(f"{name}: {open_source(settings, declared[name]).check()}")
        except NorthstarError as exc:
            failed += 1
            print(f"{name}: FAILED, {exc}")
    return 1 if failed else 0


def _status(arguments) -> None:
    from northstar.reading import status

    print(status(load_settings(arguments.home)))


def _hold(arguments) -> None:
    from northstar.publish.hold import end_hold, hold

    settings = load_settings(arguments.home)
    print(end_hold(settings, arguments.by) if arguments.end else hold(settings, arguments.because, arguments.by))


def _rollback(arguments) -> None:
    from northstar.lease import turn
    from northstar.publish import rollback
    from northstar.publish.hold import end_hold, hold

    settings = load_settings(arguments.home)
    if arguments.hold is not None:
        # before, so that no run comes in between
        print(hold(settings, arguments.hold))
    try:
        with turn(settings, "rollback") as number:
            version, restored = rollback(settings, arguments.to, number)
    except NorthstarError:
        if arguments.hold is not None:
            end_hold(settings)
        raise
    print(f"version {version} is published: the marts are as they were at version {restored}")


def _verify(arguments) -> int:
    from northstar.publish import erased_since, verify
    from northstar.reading import table

    settings = load_settings(arguments.home)
    why = erased_since(settings, arguments.version) if arguments.version else None
    if why:
        print(why)
    found = verify(settings, arguments.version, progress)
    differing = [c for c in found if not c.is_same]
    print(table([
        {"": c.kind, "name": c.name, "rows": c.certified.get("rows"), "hash": c.certified.get("hash"), "made again": "the same"
         if c.is_same else f"DIFFERS: {c.made.get('rows')} rows, {c.made.get('hash')}"}
        for c in found if differing or c.kind == "outputs"
    ]))  # fmt: skip
    print(f"{len(found) - len(differing)} of {len(found)} entities and marts are the same to the byte")
    return 1 if differing else 0


def _quarantine(arguments) -> None:
    from northstar.landing import quarantine
    from northstar.reading import table

    settings = load_settings(arguments.home)
    if arguments.action == "list":
        print(table(quarantine.list_rows(settings, entity=arguments.entity)))
    elif arguments.action == "show":
        if arguments.id is None:
            raise NorthstarError("which row? give its number: northstar quarantine show 17")
        for name, value in quarantine.show(settings, arguments.id, arguments.unseal).items():
            print(f"{name}: {value}")
    elif arguments.action == "accept":
        if arguments.entity is None:
            raise NorthstarError(
                "which rows? give their entity: northstar quarantine accept --entity charges --because ..."
            )
        print(quarantine.accept(settings, arguments.entity, arguments.because, arguments.by))
    else:
        print(quarantine.replay(settings, entity=arguments.entity))


def _erase(arguments) -> None:
    from northstar.privacy.erase import erase, erase_pending

    settings = load_settings(arguments.home)
    if arguments.pending:
        done = erase_pending(settings, progress)
    else:
        if "@" in f"{arguments.account_id}{arguments.email}" or arguments.email not in (None, "-"):
            raise NorthstarError(
                "a command line is seen by every user of this machine and stays in the shell's history: "
                "say --email - (or --account-id -) and write the address on standard input"
            )
        whom = [
            sys.stdin.readline().strip() if given == "-" else given for given in (arguments.account_id, arguments.email)
        ]
        done = [erase(settings, *whom, arguments.by, progress, is_later=arguments.later)]
    for erasure in done:
        version = f", published as version {erasure.published_version}" if erasure.published_version else ""
        print(f"erasure {erasure.erasure_id}: {erasure.state}, asked for by {erasure.requested_by}{version}")
        for table, rows in sorted(erasure.rows.items()):
            print(f"  {table}: {rows} rows")
    if not done:
        print("nothing is waiting to be erased")


def _rotate_key(arguments) -> None:
    from northstar.privacy.rotate import rotate_key

    rotated = rotate_key(load_settings(arguments.home), progress)
    if rotated.was_interrupted:
        print(
            f"key {rotated.generation}, which an interrupted rotation had brought in, is in use; run this again for another one"
        )
        return
    print(
        f"key {rotated.generation} is in use; {rotated.hashes:,} hashes and {rotated.seals:,} documents with sealed values were brought to it"
    )
    if rotated.unopened:
        print(
            f"{rotated.unopened:,} texts that begin like sealed ones, and that no key here has sealed, were left as they are"
        )


def _simulate(arguments) -> None:
    from northstar.simulator import simulate

    options = {"applications": tuple(arguments.applications)} if arguments.applications else {}
    simulate(
        arguments.out,
        with_truth=True,
        seed=arguments.seed,
        months=arguments.months,
        accounts=arguments.accounts,
        **options,
    )
    print(f"the company's source files are in {arguments.out}")


if __name__ == "__main__":
    sys.exit(main())
