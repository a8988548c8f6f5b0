"""The rules of rules.yml, as they are written there."""

from functools import cache
from pathlib import Path
from typing import NotRequired, TypedDict

from northstar.base.config_files import read_own_yaml

RULES = Path(__file__).with_name("rules.yml")


class Rule(TypedDict):
    """A rule of rules.yml; that file says what each key means."""

    rule: str
    metric: str
    severity: str
    action: str
    cause: str
    compared_with: str
    quiet: int
    page: str
    says: str
    sql: str
    actions: NotRequired[dict[str, str]]
    unit: NotRequired[str]
    reads: NotRequired[str]
    parts: NotRequired[str]


@cache
def rules() -> list[Rule]:
    """The rules of rules.yml."""
    entries: list[Rule] = read_own_yaml(RULES)
    return entries


def unit_of(name: str) -> str | None:
    """The unit of a rule's value and threshold where it is not the metric's."""
    return next((rule.get("unit") for rule in rules() if rule["rule"] == name), None)
