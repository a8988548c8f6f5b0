"""A lineage for people and for programs."""

import textwrap
from collections.abc import Iterable, Iterator

from northstar.build.lineage import METRIC, ROWS, Origin
from northstar.use.lineage.readers import SHARED_MARTS
from northstar.use.lineage.trace import Readers, Step, Trace, is_landed
from northstar.warehouse.rows import Row

KINDS = {
    "pages": "panels", "reports": "reports", "exposures": "exposures", "metricflow": "MetricFlow", "targets": "targets", "alerts": "alert rules",
}  # fmt: skip
WIDTH = 140


def as_text(trace: Trace) -> str:
    """The trees of a lineage, and below each the lists of what lies at its ends."""
    lines = [f"{_name(trace.name)}, as version {trace.version} is made"]
    if trace.up and is_landed(trace.name):
        lines += [
            "",
            "made of what sources deliver: docs/contract.md has its type, and mappings/ and sources.yml where it comes from",
        ]
    elif trace.up:
        lines += ["", "made of", *_tree(trace.up.tree, "rows chosen by")]
        lines += ["", *_listed("landed columns that it is computed from", by_relation(trace.up.values))]
        lines += _listed("landed columns that choose the rows", by_relation(trace.up.rows))
    if trace.down:
        lines += ["", "goes into", *_tree(trace.down.tree, "chooses rows of")]
        lines += ["", *_readers("computed from it", trace.down.values)]
        lines += _readers("computed from rows that it chooses", trace.down.rows)
    for relation, texts in sorted(trace.not_followed.items()):
        lines.append(f"not followed: in {relation} {'; '.join(texts)}")
    return "\n".join(lines)


def as_json(trace: Trace) -> Row:
    """The lineage as a dict of plain values."""
    content: Row = {"name": str(trace.name), "kind": kind_of(trace.name), "version": trace.version}
    if trace.up:
        content["up"] = {
            "tree": _step(trace.up.tree),
            "landed": {"values": _landed(trace.up.values), "rows": _landed(trace.up.rows)},
            "models": trace.up.models,
        }
    if trace.down:
        content["down"] = {
            "tree": _step(trace.down.tree),
            **{
                name: {"metrics": found.metrics, "marts": found.marts, "readers": found.by_kind}
                for name, found in (("values", trace.down.values), ("rows", trace.down.rows))
            },
        }
    return content | {"not_followed": trace.not_followed}


def kind_of(origin: Origin) -> str:
    """Whether a name is a metric, a landed column, or a column of a model or seed."""
    return "metric" if origin.relation == METRIC else "landed" if is_landed(origin) else "column"


def _name(origin: Origin) -> str:
    if origin.relation == METRIC:
        return f"metric {origin.column}"
    if is_landed(origin):
        # as the contract, and whoever delivers files, calls it
        name = f"{origin.relation.partition('.')[2]}.{origin.column} (landed)"
        return name if origin.column != ROWS else f"rows of {origin.relation.partition('.')[2]} (landed)"
    return str(origin) if origin.column != ROWS else f"rows of {origin.relation}"


def _tree(step: Step, rows_are: str, prefix: str = "") -> Iterator[str]:
    note = {"again": "  (see above)", "deeper": "  ..."}.get(step.state, "")
    yield f"{prefix and prefix[:-3] + '└─ '}{_name(step.name)}{note}"
    if step.rows:
        yield from _wrapped(f"{prefix}   [{rows_are} {', '.join(by_relation(step.rows))}]", f"{prefix}    ")
    for inner in step.steps:
        yield from _tree(inner, rows_are, prefix + "   ")


def by_relation(origins: Iterable[Origin]) -> list[str]:
    """Columns with those of one relation together: `core.account_mrr (account_id, changed_on)`."""
    columns: dict[str, list[str]] = {}
    for origin in origins:
        name = (
            "metrics"
            if origin.relation == METRIC
            else origin.relation.removeprefix("staging.")
            if is_landed(origin)
            else origin.relation
        )
        columns.setdefault(name, []).append("rows" if origin.column == ROWS else origin.column)
    return [f"{relation} ({', '.join(names)})" for relation, names in columns.items()]


def _listed(title: str, items: list[str]) -> list[str]:
    return (
        [f"{title}:", *(line for item in items for line in _wrapped(f"  {item}", "    "))]
        if items
        else [f"{title}: none"]
    )


def _readers(title: str, readers: Readers) -> list[str]:
    lines = []
    if readers.metrics:
        lines += _wrapped(f"  metrics: {', '.join(readers.metrics)}", "    ")
    marts = [
        # what holds every metric is read by everybody
        mart if mart in SHARED_MARTS else f"{mart} ({', '.join('rows' if c == ROWS else c for c in columns)})"
        for mart, columns in readers.marts.items()
    ]
    if marts:
        lines += _wrapped(f"  marts: {', '.join(marts)}", "    ")
    for kind, name in KINDS.items():
        if readers.by_kind.get(kind):
            lines += _wrapped(f"  {name}: {'; '.join(readers.by_kind[kind])}", "    ")
    return [f"{title}:", *lines] if lines else [f"{title}: nothing"]


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, max(WIDTH, len(indent) + 60), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _landed(origins: list[Origin]) -> list[Row]:
    return [{"entity": o.relation.partition(".")[2], "column": o.column} for o in origins]


def _step(step: Step) -> Row:
    return {
        "name": str(step.name), "kind": kind_of(step.name), "rows": [str(o) for o in step.rows], "state": step.state,
        "steps": [_step(inner) for inner in step.steps],
    }  # fmt: skip
