"""Commands that show something: the pages, a home's state, published values and what they are made of, sources."""

import argparse
import os
import sys
from datetime import UTC, datetime
from itertools import chain

from northstar.base.clock import GRAINS, parse_time
from northstar.base.errors import NorthstarError
from northstar.base.escaping import exact_output
from northstar.base.progress import progress
from northstar.base.settings import load_settings
from northstar.base.tables import table
from northstar.cli.command import Command


def register(command: Command) -> None:
    """Add the commands of this file to the parser."""
    command("dashboard", _dashboard, "serve the pages in the foreground (`make run` starts them as well)")
    command("status", _status, "show the published version, what is running, what is in quarantine and what is late")
    command("doctor", _doctor, "check this home: what is wrong, and what to do about it; exit status 1 if anything is")
    sub = command("sql", _sql, "query the published marts as the read-only role bi_reader")
    sub.add_argument("query")
    sub.add_argument("--format", choices=("csv", "table", "json"), default="table")
    sub.add_argument(
        "--version",
        type=int,
        metavar="N",
        help="query the marts as they were at version N (write their names without a schema)",
    )
    sub = command("coverage", _coverage, "show since when each metric is measured, or what has to be landed for it")
    sub.add_argument("metric", nargs="?", help="one metric (default: all)")
    sub.add_argument("--application", help="one application, or all for the company (default: each)")
    sub.add_argument("--format", choices=("csv", "table", "json"), default="table")
    sub = command(
        "explain", _explain, "explain a published value: its definition, its SQL and the rows that add up to it"
    )
    sub.add_argument("metric")
    sub.add_argument(
        "--period", help="the start of the period, such as 2025-03-01 (default: the newest complete period)"
    )
    sub.add_argument("--grain", choices=GRAINS, help="default: month, if the metric has it")
    sub.add_argument("--application", default="all")
    sub.add_argument("--segment", metavar="NAME=VALUE", help="such as plan_tier=premium")
    sub.add_argument("--rows", type=int, default=8, help="how many rows to show (default: 8)")
    sub.add_argument("--format", choices=("text", "json"), default="text")
    sub = command(
        "lineage",
        _lineage,
        "show what a column or metric is made of, down to the landed columns, and what is made of it, up to the panels of the pages",
    )
    sub.add_argument("name", metavar="COLUMN|METRIC", help="such as mrr, charges.amount or core.account_mrr.mrr_after")
    sub.add_argument("--up", action="store_true", help="only what it is made of")
    sub.add_argument("--down", action="store_true", help="only what is made of it")
    sub.add_argument("--depth", type=int, metavar="N", help="show N steps of each tree (default: all)")
    sub.add_argument("--format", choices=("text", "json"), default="text")
    sub = command(
        "verify", _verify, "rebuild a published version from the landed rows and compare it with its certificate"
    )
    sub.add_argument("--version", type=int, metavar="N", help="the version to verify (default: the newest)")
    sub = command(
        "preview",
        _preview,
        "build what the working tree changes beside the published version and show which values, marts and readers would change; "
        "exit status 0 if nothing would, 2 if something would, 3 if more than preview.yml allows",
    )
    sub.add_argument(
        "--against",
        type=int,
        metavar="VERSION",
        help="an older published version to compare with (default: the newest)",
    )
    sub.add_argument(
        "--select", nargs="+", default=[], metavar="NAME", help="models or metrics (default: everything that changes)"
    )
    sub.add_argument("--format", choices=("text", "json", "markdown"), default="text")
    sub = command("sources", _sources, "list the declared sources, check their connections, or preview their rows")
    sub.add_argument("action", choices=("list", "check", "preview"))
    sub.add_argument("name", nargs="?", help="the source (check: all by default)")
    sub.add_argument("entity", nargs="?", help="preview: the entity")
    sub.add_argument("--rows", type=int, default=5, help="preview: how many rows (default: 5)")


def _dashboard(arguments: argparse.Namespace) -> None:
    from northstar.use.pages import serve
    from northstar.use.pages.prepare import prepare
    from northstar.warehouse import embedded

    settings = load_settings(arguments.home)
    if serve.is_answering(settings):
        print(f"the pages are already running: {serve.link(settings)}")
        return
    if not settings.warehouse_url:
        embedded.ensure_running(settings)
    # a process of its own that serves the pages may know no password but the reader's
    if not settings.warehouse_url or settings.known_secret("transformer_password"):
        prepare(settings, lambda text: print(f"northstar: {text}", file=sys.stderr))
    command = serve.command(settings)
    if warning := serve.cleartext_warning():
        print(f"northstar: {warning}", file=sys.stderr)
    print(f"the pages: {serve.link(settings)}   (Ctrl-C stops them)", flush=True)
    os.execve(command[0], command, serve.environment(settings))


def _status(arguments: argparse.Namespace) -> None:
    from northstar.operate.status import status

    print(status(load_settings(arguments.home)))


def _doctor(arguments: argparse.Namespace) -> int:
    from northstar.operate.doctor import examine

    wrong_count = 0
    for finding in examine(load_settings(arguments.home)):
        wrong_count += finding.is_wrong
        print(finding, flush=True)
    print(
        {0: "nothing is wrong", 1: "1 thing is wrong"}.get(wrong_count, f"{wrong_count} things are wrong"),
        "(`northstar status` shows what is published and what is running)",
    )
    return 1 if wrong_count else 0


def _sql(arguments: argparse.Namespace) -> None:
    from northstar.use.query import run_statement, why_no_rows, write

    out = sys.stdout if arguments.format == "table" else exact_output()
    settings = load_settings(arguments.home)
    with run_statement(settings, arguments.query, arguments.version) as (names, rows):
        first = next(rows, None)
        write(names, rows if first is None else chain([first], rows), arguments.format, out)
    if first is None and (reason := why_no_rows(settings, arguments.query)):
        print(f"northstar: no rows: {reason}", file=sys.stderr)


def _coverage(arguments: argparse.Namespace) -> None:
    from northstar.use.coverage import metric_coverage
    from northstar.use.query import write
    from northstar.use.words import describe_needs

    rows = metric_coverage(load_settings(arguments.home), arguments.metric, arguments.application)
    names = ["metric", "application", "measured since", "lacking"]
    if arguments.format == "table":
        print(
            table([dict(zip(names, (*row[:3], row[3] and describe_needs(row[3])), strict=True)) for row in rows], names)
        )
    else:
        write(names, iter(rows), arguments.format, exact_output())


def _explain(arguments: argparse.Namespace) -> int:
    from northstar.use.explain.explanation import explain
    from northstar.use.explain.text import as_json, as_text

    name, equals, value = (arguments.segment or "").partition("=")
    if arguments.segment and not (name and equals):
        raise NorthstarError(f"{arguments.segment!r} is not a segment; write it like plan_tier=premium")
    if arguments.rows < 1:
        raise NorthstarError("--rows: give a number of 1 or more")
    settings = load_settings(arguments.home)
    explanation = explain(
        settings, arguments.metric, parse_time(arguments.period, settings.rules.calendar.zone) if arguments.period else None,
        arguments.grain, arguments.application, name, value, arguments.rows,
    )  # fmt: skip
    print(as_json(explanation) if arguments.format == "json" else as_text(explanation))
    return 0 if explanation.adds_up else 1


def _preview(arguments: argparse.Namespace) -> int:
    from northstar.runs.preview.preview import preview
    from northstar.runs.preview.text import as_json, as_markdown, as_text, for_pages
    from northstar.use.last_preview import keep_preview

    settings = load_settings(arguments.home)
    result = preview(settings, arguments.select, arguments.against, progress=progress)
    if result.cannot_tell is None:
        keep_preview(settings, for_pages(result, settings.rules.suppress_below > 0, datetime.now(UTC)))
    print({"text": as_text, "json": as_json, "markdown": as_markdown}[arguments.format](result))
    return result.status


def _lineage(arguments: argparse.Namespace) -> None:
    import json

    from northstar.use.lineage import text
    from northstar.use.lineage.trace import trace

    if arguments.depth is not None and arguments.depth < 1:
        raise NorthstarError("--depth: give a number of 1 or more")
    both = arguments.up == arguments.down
    found = trace(
        load_settings(arguments.home), arguments.name, both or arguments.up, both or arguments.down, arguments.depth
    )
    print(json.dumps(text.as_json(found), indent=2) if arguments.format == "json" else text.as_text(found))


def _verify(arguments: argparse.Namespace) -> int:
    from northstar.runs.verify import verify, why_not_reproducible

    settings = load_settings(arguments.home)
    reason = why_not_reproducible(settings, arguments.version) if arguments.version else None
    if reason:
        print(reason)
    comparisons = verify(settings, arguments.version, progress)
    differing = [c for c in comparisons if not c.is_same]
    print(table([
        {"": c.kind, "name": c.name, "rows": c.certified.get("rows"), "hash": c.certified.get("hash"), "made again": "the same"
         if c.is_same else f"DIFFERS: {c.remade.get('rows')} rows, {c.remade.get('hash')}"}
        for c in comparisons if differing or c.kind == "outputs"
    ]))  # fmt: skip
    print(f"{len(comparisons) - len(differing)} of {len(comparisons)} entities and marts are identical to the byte")
    return 1 if differing else 0


def _sources(arguments: argparse.Namespace) -> int:
    from northstar.extract.landing.source import preview, source_report
    from northstar.extract.sources.declared import open_source, read_sources
    from northstar.warehouse.setup import bootstrap

    settings = load_settings(arguments.home)
    declared = read_sources(settings)
    if not declared:
        raise NorthstarError(
            f"no source is declared in {settings.config / 'sources.yml'}; docs/add_a_source.md shows how"
        )
    if arguments.name and arguments.name not in declared:
        raise NorthstarError(f"no source {arguments.name!r}; the declared ones are {', '.join(declared)}")
    if arguments.action == "list":
        bootstrap(settings)
        print(table(source_report(settings, declared)))
        return 0
    if arguments.action == "preview":
        if not arguments.name or not arguments.entity:
            raise NorthstarError(
                "preview which rows? give a source and an entity: northstar sources preview billing charges"
            )
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
