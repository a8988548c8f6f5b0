"""Which metrics there are, and what each of them is."""

import re

from northstar.use.answers.reading import Reading
from northstar.use.answers.refusals import Refused
from northstar.use.answers.require import NEAR, near_names
from northstar.use.answers.shapes import Definition, Measured, MetricDetail, MetricList
from northstar.use.marts import Metric
from northstar.use.words import cited_rules, describe_needs, title_of
from northstar.warehouse.rows import Row


def list_metrics(reading: Reading, search: str = "", domain: str = "") -> MetricList:
    """The metrics whose id, title or definition has every word of `search`, of a domain if one is given. Raises Refused for an unknown domain."""
    reading.require("metrics")
    catalogue = reading.catalogue()
    domains = sorted({entry["domain"] for entry in catalogue.values()})
    if domain and domain not in domains:
        raise Refused("bad_request", f"there is no domain {domain!r}; there are {', '.join(domains)}", domains)
    words = _words(search)
    found = [
        define(reading, entry)
        for entry in catalogue.values()
        if (not domain or entry["domain"] == domain)
        and all(word in f"{entry['metric_id']} {entry['definition']}".lower() for word in words)
    ]
    return MetricList(reading.provenance, found)


def get_metric(reading: Reading, metric: str) -> MetricDetail:
    """What a metric is, the rules that it follows, and since when it is measured where. Raises Refused for a name that is no metric's."""
    reading.require("metrics")
    entry = resolve_metric(reading, metric)
    rules = cited_rules(entry["definition"], reading.settings.root)
    measured = [
        Measured(row["application"], row["measured_from"], row["lacking"] and describe_needs(row["lacking"]))
        for row in coverage_of(reading, entry["metric_id"])
    ]
    return MetricDetail(
        reading.provenance, define(reading, entry), rules and f"## {rules[0]}\n\n{rules[1]}", entry["requirement_refs"], measured
    )  # fmt: skip


def define(reading: Reading, entry: Metric) -> Definition:
    """A metric's definition, as answers carry it."""
    return Definition(
        entry["metric_id"], title_of(entry["metric_id"]), entry["definition"], entry["domain"], entry["owner"] or "", int(entry["level"]), entry["kind"],
        entry["unit"], reading.currency if entry["unit"] == "money" else None, entry["direction"],
        None if entry["window_days"] is None else int(entry["window_days"]), entry["grains"], entry["segments"],
    )  # fmt: skip


def resolve_metric(reading: Reading, name: str) -> Metric:
    """The metric of an id or title, in capitals or not. A name that is no metric's is never guessed.

    Raises Refused, with the metrics of similar names: `ambiguous` where several have all words of the name, else `unknown_metric`.
    """
    catalogue = reading.catalogue()
    identity = "_".join(_words(name))
    if identity in catalogue:
        return catalogue[identity]
    if not identity:
        raise Refused("bad_request", "name a metric")
    having = [metric for metric in catalogue if set(_words(name)) <= set(metric.split("_"))]
    if len(having) > 1:
        raise Refused("ambiguous", f"{name[:60]!r} can be {', '.join(having[:NEAR])}: name one of them", having[:NEAR])
    near = having or near_names(identity, list(catalogue))
    hint = f"; is it {' or '.join(near)}?" if near else ""
    raise Refused("unknown_metric", f"there is no metric {name[:60]!r}{hint}", near)


def coverage_of(reading: Reading, metric: str, application: str | None = None) -> list[Row]:
    """The rows of metric_coverage of a metric (application: only of that one); none where the version has no such table."""
    if not reading.rows("select 1 as yes where to_regclass('metric_coverage') is not null"):
        return []
    return reading.rows(
        "select application, stands_on, measured_from, lacking from metric_coverage where metric_id = %(metric)s "
        "and (%(application)s::text is null or application = %(application)s) order by application",
        metric=metric, application=application,
    )  # fmt: skip


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s_-]+", text.strip().lower()) if word]
