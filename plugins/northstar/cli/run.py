"""Commands that run something: runs, backfills, forecasts, reports, alerts, and the demonstration company's files."""

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path

from northstar.base.clock import parse_time
from northstar.base.errors import NorthstarError
from northstar.base.progress import progress
from northstar.base.settings import Settings, load_settings
from northstar.base.tables import table
from northstar.cli.command import Command


def register(command: Command) -> None:
    """Add the commands of this file to the parser."""
    sub = command("run", _run, "do one run in this process; exit status 0 only if a version was published")
    sub.add_argument(
        "--source-dir",
        help="directory or fsspec URL with one folder for each entity, in addition to the declared sources",
    )
    sub.add_argument(
        "--mapping",
        help="a YAML file that says how a foreign layout becomes the contract's entities (default: the files follow the contract)",
    )
    sub.add_argument(
        "--as-of", help="logical time, exclusive, such as 2025-04-01T00:00:00Z (default: the current hour)"
    )
    sub.add_argument("--mode", choices=("nightly", "hourly"), default="nightly")
    sub.add_argument(
        "--approve",
        action="store_true",
        help="publish also if more is restated than `approve_above` of operations.yml allows",
    )
    sub.add_argument("--by", default=os.environ.get("USER", "somebody"), help="who approves it (default: you)")
    sub = command("backfill", _backfill, "read a range of the past again, rebuild exactly its periods and publish")
    sub.add_argument(
        "--from", dest="start", required=True, metavar="TIME", help="the start of the range, such as 2025-01-01"
    )
    sub.add_argument("--to", dest="end", required=True, metavar="TIME", help="the end of the range, exclusive")
    sub.add_argument("--reason", required=True, help="the reason; it is recorded in audit.backfills")
    sub.add_argument("--source", action="append", metavar="NAME", help="only this declared source (may be repeated)")
    sub.add_argument("--source-dir", help="also read this directory again")
    sub.add_argument("--mapping", help="as for `northstar run`")
    sub.add_argument("--no-reading", action="store_true", help="read no source; rebuild from what has landed")
    sub.add_argument("--by", default=os.environ.get("USER", "somebody"), help="who asked for it (default: you)")
    sub = command(
        "rebuild",
        _rebuild,
        "rebuild models (or those of metrics), and everything made from them, from the landed rows, and publish",
    )
    sub.add_argument("names", nargs="+", metavar="NAME", help="a model or a metric")
    sub.add_argument("--reason", required=True, help="the reason; it is kept with the run")
    sub.add_argument("--by", default=os.environ.get("USER", "somebody"), help="who asked for it (default: you)")
    command("forecast", _forecast, "update the forecasts of the level 1 and 2 metrics whose values have changed")
    sub = command("report", _report, "make a report on what is published, store it and print it; --send also sends it")
    sub.add_argument(
        "report",
        help="daily, weekly, monthly, quarterly or annual; `list` for the stored reports; `subscriptions` for the views that readers subscribed to (--send sends those that are due); or the number of a stored report",
    )
    sub.add_argument(
        "--as-of", help="report on the last period that was over at this time (default: the time of the newest version)"
    )
    sub.add_argument("--application", help="the application to report on (default: all)")
    sub.add_argument(
        "--role", help="the role of readers.yml whose part of the numbers the report has (default: everything)"
    )
    sub.add_argument(
        "--html", metavar="FILE", help="write the report to this file, as a page that needs no other files"
    )
    sub.add_argument("--send", action="store_true", help="send it as notify.yml says")
    sub = command("subscriptions", _subscribed, "list the views that readers subscribed to, or end one for them")
    sub.add_argument("what", nargs="?", choices=("list", "end"), default="list")
    sub.add_argument("number", nargs="?", type=int, help="end: the subscription's number, as `list` shows it")
    sub = command("alerts", _alerts, "list what is wrong now; acknowledge or mute an alert; evaluate all of them now")
    sub.add_argument("what", choices=("list", "ack", "mute", "evaluate"))
    sub.add_argument("id", nargs="?", help="ack, mute: the id of the alert, as `list` shows it")
    sub.add_argument("--all", action="store_true", help="list: include closed alerts")
    sub.add_argument(
        "--by", default=os.environ.get("USER", "somebody"), help="ack: who is working on it (default: you)"
    )
    sub.add_argument("--hours", type=float, default=8, help="mute: for how many hours (default: 8)")
    sub = command("note", _note, "write a note that stands on charts and in reports; list the notes, or delete one")
    sub.add_argument("text", nargs="?", help="what happened, such as 'prices of the wizard raised'")
    sub.add_argument("--at", metavar="TIME", help="when, such as 2026-03-01 (default: the current hour)")
    sub.add_argument("--application", default="all", help="the application that it is about (default: the company)")
    sub.add_argument("--metric", help="the metric that it is about (default: any)")
    sub.add_argument("--by", default=os.environ.get("USER", "somebody"), help="who writes it (default: you)")
    sub.add_argument("--list", action="store_true", help="list the notes, the newest first")
    sub.add_argument("--delete", metavar="ID", help="delete a note, as --list names it")
    sub = command("simulate", _simulate, "write the source files of the demonstration company")
    sub.add_argument("--out", required=True, type=Path, metavar="DIR", help="the directory to write them to")
    sub.add_argument("--seed", type=int, default=1, help="the seed of its random numbers (default: 1)")
    sub.add_argument("--months", type=int, default=12, help="how many months of history (default: 12)")
    sub.add_argument("--accounts", type=int, default=2000, help="how many accounts (default: 2000)")
    sub.add_argument("--applications", nargs="+", metavar="NAME", help="the names of its applications")
    sub.add_argument(
        "--incidents", type=int, default=4, help="how many incidents to plant for the alerts to find (default: 4)"
    )


def _run(arguments: argparse.Namespace) -> None:
    from northstar.runs import job
    from northstar.use.headline import print_headline

    settings = load_settings(arguments.home)
    version = job.run(
        settings, arguments.mode, parse_time(arguments.as_of, settings.rules.calendar.zone), arguments.source_dir, progress, arguments.mapping,
        approved_by=arguments.by if arguments.approve else None,
    )  # fmt: skip
    progress(f"published version {version}")
    print_headline(settings)


def _backfill(arguments: argparse.Namespace) -> None:
    from northstar.runs.backfill import backfill

    settings = load_settings(arguments.home)
    start, end = (parse_time(text, settings.rules.calendar.zone) for text in (arguments.start, arguments.end))
    version = backfill(
        settings, start, end, arguments.reason, arguments.by,
        sources=arguments.source, source_dir=arguments.source_dir, mapping=arguments.mapping,
        with_reading=not arguments.no_reading, progress=progress,
    )  # fmt: skip
    progress(f"published version {version}")


def _rebuild(arguments: argparse.Namespace) -> None:
    from northstar.runs.rebuild import rebuild

    version = rebuild(load_settings(arguments.home), arguments.names, arguments.reason, arguments.by, progress)
    progress(f"published version {version}")


def _forecast(arguments: argparse.Namespace) -> None:
    from northstar.use.forecasts import forecast_metrics

    forecast_metrics(load_settings(arguments.home), progress)


def _subscriptions(settings: Settings, is_sending: bool) -> None:
    from northstar.use.pages.subscriptions import list_subscriptions, send_due

    if is_sending:
        print("\n".join(send_due(settings, datetime.now(UTC))) or "no subscription is due")
        return
    rows = list_subscriptions(settings)
    print(table(rows) if rows else "nobody has subscribed to a view")


def _subscribed(arguments: argparse.Namespace) -> None:
    from northstar.use.pages.subscriptions import end_subscription

    settings = load_settings(arguments.home)
    if arguments.what == "list":
        _subscriptions(settings, is_sending=False)
        return
    if arguments.number is None:
        raise NorthstarError("which one? `northstar subscriptions list` shows their numbers")
    print(f"ended: {end_subscription(settings, arguments.number)}")


def _report(arguments: argparse.Namespace) -> None:
    from northstar.use.reports.send import make_and_keep, send
    from northstar.use.reports.store import list_reports, read_report

    settings = load_settings(arguments.home)
    if arguments.report == "subscriptions":
        _subscriptions(settings, arguments.send)
        return
    zone = settings.rules.calendar.zone
    if arguments.report == "list":
        rows = list_reports(settings)
        print(table(rows) if rows else "no report has been made yet")
        return
    if arguments.report.isdigit():
        html, text = read_report(settings, int(arguments.report))
    else:
        report_id, report = make_and_keep(
            settings,
            arguments.report,
            parse_time(arguments.as_of, zone) if arguments.as_of else None,
            arguments.application or _first_application(settings, arguments.role),
            arguments.role,
        )
        html, text = report.standalone(), report.text
    if arguments.html:
        Path(arguments.html).write_text(html)
        progress(f"written to {arguments.html}")
    else:
        print(text)
    if arguments.send and not arguments.report.isdigit():
        recipients = send(settings, report_id, report)
        progress(
            f"sent: {', '.join(recipients)}"
            if recipients
            else f"notify.yml has no route for the report {report.name}: it was stored but not sent"
        )


def _first_application(settings: Settings, role: str | None) -> str:
    """What a report is about where nobody says it."""
    seen = settings.readers.roles.get(role or "")
    return "all" if seen is None or seen.applications == "all" else seen.applications[0]


def _alerts(arguments: argparse.Namespace) -> None:
    from northstar.use.alerts.evaluate import evaluate
    from northstar.use.alerts.notices import acknowledge, list_notices, list_other_troubles, mute

    settings = load_settings(arguments.home)
    if arguments.what in ("ack", "mute") and not arguments.id:
        raise NorthstarError(
            f"which alert? give its id: northstar alerts {arguments.what} ID (`northstar alerts list` shows them)"
        )
    if arguments.what == "list":
        rows = list_notices(settings, arguments.all)
        lines = list_other_troubles(settings)
        print("\n".join([table(rows) if rows else "no alert is open" if lines else "nothing is wrong", *lines]))
    elif arguments.what == "ack":
        acknowledge(settings, arguments.id, arguments.by)
    elif arguments.what == "mute":
        mute(settings, arguments.id, arguments.hours)
    else:
        evaluate(settings, progress=progress)


def _note(arguments: argparse.Namespace) -> None:
    from northstar.use.notes import delete_note, list_notes, write_note

    settings = load_settings(arguments.home)
    if arguments.delete:
        delete_note(settings, arguments.delete)
        print(f"{arguments.delete} is deleted")
    elif arguments.list:
        for note in list_notes(settings):
            about = ", ".join([note["application"], *(note["metrics"] or [])])
            print(
                f"{note['mark_id']}  {note['marked_at']:%Y-%m-%d %H:%M}  {about}: {note['title']} ({note['by_whom']})"
            )
    else:
        at = parse_time(arguments.at, settings.rules.calendar.zone)
        print(write_note(settings, arguments.text or "", arguments.by, at, arguments.application, arguments.metric))


def _simulate(arguments: argparse.Namespace) -> None:
    from northstar.demo.company import CompanyOptions, simulate

    options: CompanyOptions = {
        "seed": arguments.seed,
        "months": arguments.months,
        "accounts": arguments.accounts,
        "incidents": arguments.incidents,
    }
    if arguments.applications:
        options["applications"] = tuple(arguments.applications)
    simulate(arguments.out, with_truth=True, **options)
    print(f"the company's source files are in {arguments.out}")
