"""Commands that maintain a home: set-up, upkeep, backups, stopping, and other programs in its environment."""

import argparse
import subprocess
import sys
from pathlib import Path

from northstar.base.clock import parse_time
from northstar.base.progress import progress
from northstar.base.settings import load_settings
from northstar.cli.command import Command


def register(command: Command) -> None:
    """Add the commands of this file to the parser."""
    command(
        "setup",
        _setup,
        "create or repair the warehouse's roles, grants, tables and indexes (the first run after an upgrade does it by itself)",
    )
    command(
        "maintain",
        _maintain,
        "delete what has been kept long enough and clean up, as the nightly run does after publishing",
    )
    sub = command("backup", _backup, "copy this home into a new directory while it is in use")
    sub.add_argument("--to", required=True, type=Path, metavar="DIR", help="a new or empty directory")
    sub.add_argument(
        "--secrets",
        type=Path,
        metavar="FILE",
        help="also write the secrets to this file; keep it apart from the backup",
    )
    sub = command("restore", _restore, "create a new home (--home) from a backup")
    sub.add_argument("--from", dest="source", required=True, type=Path, metavar="DIR", help="the backup")
    sub.add_argument(
        "--to-time",
        metavar="TIME",
        help="restore to this time after the backup, or to `latest` (default: the time of the backup)",
    )
    sub.add_argument("--secrets", type=Path, metavar="FILE", help="the secrets of the home that was backed up")
    sub.add_argument("--archive", type=Path, metavar="DIR", help="the archive of its write-ahead log, if it has moved")
    command("stop", _stop, "stop this home's Postgres and services")
    sub = command("airflow", _airflow, "run Airflow's command line in this home's environment")
    sub.add_argument(
        "words", nargs=argparse.REMAINDER, help="for example: backfill create --dag-id nightly_rebuild ..."
    )
    sub = command("mf", _mf, "run MetricFlow's command line on the published marts as bi_reader")
    sub.add_argument(
        "words", nargs=argparse.REMAINDER, help="for example: query --metrics mrr --group-by metric_time__month"
    )


def _setup(arguments: argparse.Namespace) -> None:
    from northstar.warehouse.setup import bootstrap

    bootstrap(load_settings(arguments.home), is_forced=True)


def _maintain(arguments: argparse.Namespace) -> None:
    from northstar.runs.maintenance import maintain
    from northstar.runs.turns import command_turn

    settings = load_settings(arguments.home)
    with command_turn(settings, "maintain"):
        maintain(settings, progress=progress)


def _backup(arguments: argparse.Namespace) -> None:
    from northstar.operate.backup import backup

    about = backup(load_settings(arguments.home), arguments.to.resolve(), arguments.secrets, progress)
    place = f"in {arguments.secrets}" if arguments.secrets else "not included: keep the home's secrets.json elsewhere"
    print(
        f"published version {about['published_version'] or 'none'} and all earlier ones are backed up in {arguments.to} ({about['bytes'] / 2**20:,.0f} MB, verified); "
        f"the secrets are {place}"
    )


def _restore(arguments: argparse.Namespace) -> None:
    from northstar.operate.backup import LATEST, restore

    settings = load_settings(arguments.home)
    at = arguments.to_time if arguments.to_time in (None, LATEST) else parse_time(arguments.to_time)
    archive = arguments.archive and arguments.archive.resolve()
    version = restore(arguments.source.resolve(), settings, at, arguments.secrets, archive, progress)
    print(f"{settings.home} is restored, published version {version or 'none'}; check it with `northstar doctor`")


def _stop(arguments: argparse.Namespace) -> None:
    from northstar.orchestration.services import stop_services
    from northstar.warehouse import embedded

    settings = load_settings(arguments.home)
    stopped = stop_services(settings)
    if embedded.stop(settings):
        stopped = [*stopped, "postgres"]
    print("stopped " + ", ".join(stopped) if stopped else "nothing was running")


def _airflow(arguments: argparse.Namespace) -> int:
    from northstar.connections.airflow import airflow_environment

    executable = Path(sys.executable).parent / "airflow"
    return subprocess.run(
        [executable, *arguments.words], env=airflow_environment(load_settings(arguments.home))
    ).returncode


def _mf(arguments: argparse.Namespace) -> int:
    from northstar.use.coverage import unmeasured_in_words
    from northstar.use.semantic import metricflow

    settings = load_settings(arguments.home)
    done = metricflow(settings, arguments.words)
    for line in unmeasured_in_words(settings, arguments.words):
        print(line, file=sys.stderr)
    return done.returncode
