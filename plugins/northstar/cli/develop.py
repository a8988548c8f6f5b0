"""Commands for those who change models: check the project, see a model's rows, run its unit tests."""

import argparse

from northstar.base.clock import GRAINS
from northstar.base.errors import NorthstarError
from northstar.base.settings import load_settings
from northstar.cli.command import Command


def register(command: Command) -> None:
    """Add the commands of this file to the parser."""
    sub = command(
        "dev", _dev, "try a change of models without a run: check the project, show a model's rows, run its unit tests"
    )
    actions = sub.add_subparsers(required=True, metavar="ACTION")
    text = "show the rows of a model, or the values of a metric, that the code makes now, from the core of the last run"
    show = actions.add_parser("show", help=text, description=text)
    show.add_argument("name", metavar="MODEL|METRIC")
    show.add_argument("--rows", type=int, default=20, help="how many rows, of a metric the newest (default: 20)")
    show.add_argument(
        "--grain",
        choices=GRAINS,
        help="of a metric (default: month, if it has it)",
    )
    show.add_argument("--application", help="of a metric (default: all)")
    show.add_argument("--segment", metavar="NAME", help="of a metric, such as plan_tier (default: none)")
    show.set_defaults(action=_show)
    text = "run the unit tests of a model, or of the model that makes a metric"
    test = actions.add_parser("test", help=text, description=text)
    test.add_argument("name", metavar="MODEL|METRIC")
    test.set_defaults(action=_test)
    text = "list the mistakes at which a run would stop; exit status 1 if there are any"
    check = actions.add_parser("check", help=text, description=text)
    check.set_defaults(action=_check)
    text = "write the files of the dbt project that follow from the contract and from the names of models"
    generate = actions.add_parser("generate", help=text, description=text)
    generate.set_defaults(action=_generate)
    for action in (show, test, check, generate):
        action.add_argument("--home", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _dev(arguments: argparse.Namespace) -> int:
    status: int = arguments.action(arguments) or 0
    return status


def _show(arguments: argparse.Namespace) -> None:
    from northstar.build import develop

    if arguments.rows < 1:
        raise NorthstarError("--rows: give a number of 1 or more")
    shown = develop.show(
        load_settings(arguments.home), arguments.name, arguments.rows, arguments.grain, arguments.application, arguments.segment
    )  # fmt: skip
    print(develop.as_text(shown))


def _test(arguments: argparse.Namespace) -> int:
    from northstar.build import develop

    tests = develop.unit_test(load_settings(arguments.home), arguments.name)
    for test in tests:
        print(f"{'passed' if test.passed else 'FAILED'}  {test.name} ({test.model})")
        if not test.passed:
            print(test.message)
    return 0 if all(test.passed for test in tests) else 1


def _check(arguments: argparse.Namespace) -> int:
    from northstar.build import develop

    findings = develop.check_project(load_settings(arguments.home))
    for finding in findings:
        print(finding)
    print(f"{len(findings)} mistake{'' if len(findings) == 1 else 's'}" if findings else "no mistakes")
    return 1 if findings else 0


def _generate(arguments: argparse.Namespace) -> None:
    from northstar.build.generate import main

    main(load_settings(arguments.home).root / "dbt_project")
