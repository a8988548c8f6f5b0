"""Commands that write the skeleton of something new: a metric, a model, a connector."""

import argparse
from pathlib import Path

from northstar.base.errors import NorthstarError
from northstar.base.settings import load_settings
from northstar.cli.command import Command


def register(command: Command) -> None:
    """Add the commands of this file to the parser."""
    sub = command(
        "new", _new, "write the skeleton of a metric, a model or a connector, with TODO where it needs thought"
    )
    kinds = sub.add_subparsers(required=True, metavar="KIND")
    text = "a metric: made of others (--numerator), of a table's rows (--count), or a line of a metric model (--in)"
    metric = kinds.add_parser("metric", help=text, description=text)
    metric.add_argument("name", metavar="NAME")
    how = metric.add_mutually_exclusive_group(required=True)
    how.add_argument("--numerator", metavar="EXPRESSION", help="arithmetic over metrics, such as 'cash_collected'")
    how.add_argument(
        "--count", metavar="TABLE", help="the model whose rows are counted or summed, such as fct_payments"
    )
    how.add_argument("--in", dest="model", metavar="MODEL", help="the metric model in SQL, such as metrics_payments")
    metric.add_argument("--denominator", metavar="EXPRESSION", help="with --numerator, such as 'mrr'")
    metric.set_defaults(action=_metric)
    text = "a model, by default a mart: its SQL, description, unit test and checks"
    model = kinds.add_parser("model", help=text, description=text)
    model.add_argument("name", metavar="NAME")
    model.add_argument("--folder", required=True, help="its folder of dbt_project/models, such as marts/payments")
    model.add_argument("--reads", required=True, metavar="MODEL", help="the model that it reads, such as fct_payments")
    model.add_argument(
        "--key", required=True, metavar="COLUMNS", help="what makes its rows unique, such as application,month"
    )
    model.set_defaults(action=_model)
    text = "a connector: its module, its test and its section of docs/sources.md"
    source = kinds.add_parser("source", help=text, description=text)
    source.add_argument("name", metavar="NAME")
    source.add_argument("--entity", required=True, help="what it delivers first, such as tickets")
    source.set_defaults(action=_source)
    for kind in (metric, model, source):
        kind.add_argument("--home", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _new(arguments: argparse.Namespace) -> None:
    root = load_settings(arguments.home).root
    for path in arguments.action(root, arguments):
        print(path.relative_to(root))
    print("`northstar dev check` lists what is still to be written (TODO)")


def _metric(root: Path, arguments: argparse.Namespace) -> list[Path]:
    from northstar.build import skeletons

    project = root / "dbt_project"
    if arguments.denominator and not arguments.numerator:
        raise NorthstarError("--denominator: goes with --numerator")
    if arguments.numerator:
        return skeletons.new_composed_metric(project, arguments.name, arguments.numerator, arguments.denominator)
    if arguments.count:
        return skeletons.new_counted_metric(project, arguments.name, arguments.count)
    return skeletons.new_sql_metric(project, arguments.name, arguments.model)


def _model(root: Path, arguments: argparse.Namespace) -> list[Path]:
    from northstar.build import skeletons

    key = [column.strip() for column in arguments.key.split(",") if column.strip()]
    if not key:
        raise NorthstarError("--key: name the columns that make a row unique, such as application,month")
    return skeletons.new_model(root / "dbt_project", arguments.name, arguments.folder, arguments.reads, key)


def _source(root: Path, arguments: argparse.Namespace) -> list[Path]:
    from northstar.extract.skeleton import new_source

    return new_source(root, arguments.name, arguments.entity)
