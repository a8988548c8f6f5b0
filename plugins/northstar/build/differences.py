"""What two versions of the code build differently, and whether the code or a setting is the reason.

Models are compared as they were compiled, without comments and layout: a model that only says the same in other words of prose is unchanged.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from northstar.base.settings import Rules, Settings
from northstar.build.definitions import parse_definition
from northstar.build.manifest import Manifest, Node, find_manifest
from northstar.warehouse.rows import Connection

DEFINITION, SETTING = "definition", "setting"
# the seed whose rows are compared metric by metric, because every metric reads it
CATALOGUE = "metric_catalogue"
# the rule that changes what the same SQL means: sessions count days by its clock (D295)
TIME_ZONE = "reporting_time_zone"
Causes = frozenset[str]
NO_CAUSE: Causes = frozenset()
RuleValues = Mapping[str, object]


@dataclass(frozen=True)
class Code:
    """A version of the code: dbt's manifest, the SQL of its models as they were compiled, and the business rules."""

    manifest: Manifest
    compiled: Mapping[str, str]
    rules: RuleValues


@dataclass
class Differences:
    """What a new version of the code builds differently: {unique_id of a model or seed: `definition`, `setting` or both}.

    metrics: {unique_id: the metrics that a changed model defines differently}, for models of which nothing else has changed.
    rules: the names of the rules that have another value.
    """

    nodes: dict[str, Causes] = field(default_factory=dict)
    metrics: dict[str, frozenset[str]] = field(default_factory=dict)
    rules: frozenset[str] = frozenset()


def read_code(settings: Settings, connection: Connection, code_version: str, rules: RuleValues) -> Code | None:
    """The code of a version that was built fully; None if its manifest or its compiled models were not kept."""
    manifest = find_manifest(settings, code_version)
    compiled = {
        row["model"]: row["sql"]
        for row in connection.execute(
            "select model, sql from audit.definitions where code_version = %s", [code_version]
        ).fetchall()
    }
    return Code(manifest, compiled, rules) if manifest is not None and compiled else None


def rule_values(settings: Settings) -> RuleValues:
    """The business rules of a home as certificates keep them."""
    values: RuleValues = settings.rules.model_dump(mode="json")
    return values


def changed_rules(old: RuleValues, new: RuleValues) -> frozenset[str]:
    """The names of the rules that have another value. A rule that was not known yet had its default."""
    defaults = Rules().model_dump(mode="json")
    return frozenset(name for name in defaults if old.get(name, defaults[name]) != new.get(name, defaults[name]))


def compare(old: Code, new: Code, own_seeds: frozenset[str] = frozenset()) -> Differences:
    """What `new` builds differently from `old`. own_seeds: the names of the seeds that are files of the home, old or new."""
    rules = changed_rules(old.rules, new.rules)
    differences = Differences(rules=rules)
    for unique_id, node in new.manifest["nodes"].items():
        if node["resource_type"] == "seed":
            other = old.manifest["nodes"].get(unique_id)
            if other is None or other["checksum"] != node["checksum"]:
                differences.nodes[unique_id] = frozenset({SETTING if node["name"] in own_seeds else DEFINITION})
        if node["resource_type"] != "model":
            continue
        causes = causes_of(node, old.manifest, new.manifest, rules)
        if TIME_ZONE in rules and keeps_rows(node):
            differences.nodes[unique_id] = causes | {SETTING}
            continue
        before, now = old.compiled.get(node["name"]), new.compiled.get(node["name"])
        if not causes or (before is not None and now is not None and is_same_sql(before, now)):
            continue
        differences.nodes[unique_id] = causes
        if before is not None and now is not None:
            metrics = _redefined_metrics(node["name"], before, now)
            if metrics is not None:
                differences.metrics[unique_id] = metrics
    return differences


def causes_of(node: Node, old: Manifest, new: Manifest, changed_rules: frozenset[str]) -> Causes:
    """Why a model may be compiled to other SQL: its text or that of a macro has changed, or a rule that they name; empty if it cannot."""
    before = old["nodes"].get(node["unique_id"])
    texts = dict(_texts(node, new))
    causes = set()
    if before is None or before["raw_code"] != node["raw_code"]:
        causes.add(DEFINITION)
    else:
        # a macro that is called under one setting alone is the same macro
        called = texts.keys() | dict(_texts(before, old)).keys()
        if any(_macro_text(old, name) != _macro_text(new, name) for name in called):
            causes.add(DEFINITION)
    quoted_rules = [f"{quote}{rule}{quote}" for rule in changed_rules for quote in "'\""]
    if any(rule in text for rule in quoted_rules for text in texts.values()):
        causes.add(SETTING)
    return frozenset(causes)


def keeps_rows(node: Node) -> bool:
    """Whether a model is a table, whose rows are as the session that built it counted days. A view is read by the clock of whoever asks."""
    return node["config"].get("materialized") in ("table", "incremental")


def upstream(manifest: Manifest, unique_id: str) -> set[str]:
    """A node and everything that it is made from, without the calendar, which every entity decides and which changes no rows."""
    visited, queue = {unique_id}, [unique_id]
    while queue:
        for parent in manifest["parent_map"].get(queue.pop(), []):
            if parent not in visited and not is_calendar(manifest, parent):
                visited.add(parent)
                queue.append(parent)
    return visited


def is_calendar(manifest: Manifest, unique_id: str) -> bool:
    """Whether a node is a calendar (northstar.build.unchanged)."""
    return bool(manifest["nodes"].get(unique_id, {}).get("config", {}).get("is_calendar"))


def is_same_sql(one: str, other: str) -> bool:
    """Whether two statements differ in comments and layout at most."""
    return one == other or _tokens(one) == _tokens(other)


def _tokens(sql: str) -> list[tuple[str, str]]:
    import sqlglot

    return [(token.token_type.name, token.text) for token in sqlglot.tokenize(sql, read="postgres")]


def _texts(node: Node, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """(name, text) of a model and of each macro that it calls, directly or through others; the model's own name is empty."""
    yield "", node["raw_code"]
    queue, visited = list(node["depends_on"].get("macros", [])), set()
    while queue:
        name = queue.pop()
        if name in visited or name not in manifest["macros"]:
            continue
        visited.add(name)
        macro = manifest["macros"][name]
        yield name, macro["macro_sql"]
        queue += macro["depends_on"].get("macros", [])


def _macro_text(manifest: Manifest, name: str) -> str | None:
    return manifest["macros"][name]["macro_sql"] if name in manifest["macros"] else None


def _redefined_metrics(name: str, before: str, now: str) -> frozenset[str] | None:
    """The metrics whose expressions differ, if that is all that differs in a model; None if anything else does."""
    old_rest, old_rows = _metric_rows(name, before)
    rest, rows = _metric_rows(name, now)
    if rest != old_rest or not rows:
        return None
    return frozenset(metric for metric in old_rows.keys() | rows.keys() if old_rows.get(metric) != rows.get(metric))


def _metric_rows(name: str, sql: str) -> tuple[str, dict[str, list[str]]]:
    """A model's SQL without the expressions that `metric_rows` has for each of its metrics, and these by metric."""
    import sqlglot
    from sqlglot import exp

    metrics = parse_definition(name, sql).metrics
    rows: dict[str, list[str]] = {}
    tree = sqlglot.parse_one(sql, read="postgres")
    for case in tree.find_all(exp.Case):
        if isinstance(case.this, exp.Column) and case.this.name == "shape_metric_id":
            for branch in list(case.args["ifs"]):
                rows.setdefault(branch.this.name, []).append(branch.sql(dialect="postgres", comments=False))
                branch.pop()
    for listed in tree.find_all(exp.In):
        for value in list(listed.expressions):
            if isinstance(value, exp.Literal) and value.this in metrics:
                value.pop()
    return tree.sql(dialect="postgres", comments=False), rows


def certificate_rules(connection: Connection, version: int) -> tuple[RuleValues, frozenset[str]]:
    """The business rules of a published version, and the names of its own seeds, from its certificate."""
    row = connection.execute("select rules from marts.certificates where published_version = %s", [version]).fetchone()
    rules = dict(row["rules"]) if row else {}
    return rules, frozenset(rules.pop("own_seeds", None) or {})
