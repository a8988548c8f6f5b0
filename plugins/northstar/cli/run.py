"""Commands that run something: runs, backfills, forecasts, reports, alerts, and the demonstration company's files."""

import argparse
import os
from pathlib import Path

from northstar.base.clock import parse_time
from northstar.base.errors import NorthstarError
from northstar.base.progress import progress
from northstar.base.settings import load_settings
from northstar.base.tables import table
from northstar.cli.command import Command


def register(command: Command) -> None:
    """Add the commands of this file to the parser."""
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
    command("forecast", _forecast, "forecast the level 1 and 2 metrics anew, where their values have changed")
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
    sub = command("simulate", _simulate, "write the demonstration company's source files")
    sub.add_argument("--out", required=True, type=Path)
    sub.add_argument("--seed", type=int, default=1)
    sub.add_argument("--months", type=int, default=12)
    sub.add_argument("--accounts", type=int, default=2000)
    sub.add_argument("--applications", nargs="+")
    sub.add_argument("--incidents", type=int, default=4, help="how many to plant for the alerts to find (default: 4)")


def _run(arguments: argparse.Namespace) -> None:
    from northstar.runs import job
    from northstar.use.headline import print_headline

    settings = load_settings(arguments.home)
    version = job.run(
        settings, arguments.mode, parse_time(arguments.as_of), arguments.source_dir, progress, arguments.mapping
    )
    progress(f"published version {version}")
    print_headline(settings)


def _backfill(arguments: argparse.Namespace) -> None:
    from northstar.runs.backfill import backfill

    version = backfill(
        load_settings(arguments.home), parse_time(arguments.start), parse_time(arguments.end), arguments.reason, arguments.by,
        sources=arguments.source, source_dir=arguments.source_dir, mapping=arguments.mapping,
        with_reading=not arguments.no_reading, progress=progress,
    )  # fmt: skip
    progress(f"published version {version}")


def _forecast(arguments: argparse.Namespace) -> None:
    from northstar.use.forecasts import forecast_metrics

    forecast_metrics(load_settings(arguments.home), progress)


def _report(arguments: argparse.Namespace) -> None:
    from northstar.use.reports.send import make_and_keep, send
    from northstar.use.reports.store import body, kept

    settings = load_settings(arguments.home)
    if arguments.report == "list":
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
        recipients = send(settings, report_id, report)
        progress(
            f"sent: {', '.join(recipients)}"
            if recipients
            else f"notify.yml names no route for the report {report.name}: it was kept only"
        )


def _alerts(arguments: argparse.Namespace) -> None:
    from northstar.use.alerts.evaluate import evaluate
    from northstar.use.alerts.notices import acknowledge, listed, mute, warnings

    settings = load_settings(arguments.home)
    if arguments.what in ("ack", "mute") and not arguments.id:
        raise NorthstarError(f"say which: northstar alerts {arguments.what} ID; `northstar alerts list` names them")
    if arguments.what == "list":
        rows = listed(settings, arguments.all)
        lines = [f"warning     {warning}" for warning in warnings(settings)]
        print("\n".join([table(rows) if rows else "no alert is open" if lines else "nothing is wrong", *lines]))
    elif arguments.what == "ack":
        acknowledge(settings, arguments.id, arguments.by)
    elif arguments.what == "mute":
        mute(settings, arguments.id, arguments.hours)
    else:
        evaluate(settings, progress=progress)


def _simulate(arguments: argparse.Namespace) -> None:
    from northstar.demo.company import Life, simulate

    life: Life = {"seed": arguments.seed, "months": arguments.months, "accounts": arguments.accounts,
                  "incidents": arguments.incidents}  # fmt: skip
    if arguments.applications:
        life["applications"] = tuple(arguments.applications)
    simulate(arguments.out, with_truth=True, **life)
    print(f"the company's source files are in {arguments.out}")
