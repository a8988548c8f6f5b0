"""The marts and published views, and the candidate relations that they are made of, read from dbt's manifest."""

from dataclasses import dataclass, field
from typing import Any

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.build.manifest import Node, read_manifest
from northstar.warehouse.published.values import View

CANDIDATE = "marts_candidate"


@dataclass
class Mart:
    """A published table: its key and its parts, which are the candidate relations whose union it is.

    is_logged: whether the build logged the keys that changed, which it does for a model with a unique_key; other marts are compared as a whole.
    columns: name to description. published: the published columns, if not all are. condition: SQL for the rows of a part that are published.
    whole: a relation to read instead of the parts. lookups: columns besides the key by which readers look rows up.
    """

    name: str
    key: tuple[str, ...]
    description: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    parts: list[tuple[str, str]] = field(default_factory=list)
    is_logged: bool = True
    published: tuple[str, ...] = ()
    condition: str = "true"
    whole: tuple[str, str] | None = None
    lookups: tuple[tuple[str, ...], ...] = ()


def marts(settings: Settings) -> list[Mart]:
    """The marts of the last build's manifest, by name.

    Raises NorthstarError when nothing was built or a mart has no key.
    """
    models = _models(settings)
    marts_by_name = {}
    for node in models:
        if node["schema"] == CANDIDATE and not (_meta(node).get("is_union") or _meta(node).get("is_view")):
            marts_by_name[node["name"]] = Mart(
                node["name"], _key(node), is_logged=_is_logged(node), parts=[_relation(node)]
            )
    for node in models:
        union = _meta(node).get("mart")
        if union:
            mart = marts_by_name.setdefault(union, Mart(union, _key(node)))
            mart.parts.append(_relation(node))
            mart.is_logged = mart.is_logged and _is_logged(node)
    if settings.rules.suppress_below:
        for name in (node["name"] for node in models if _meta(node).get("is_union")):
            # what is withheld is only known from all parts together, and is decided anew for every period
            union = marts_by_name[name]
            union.whole, union.is_logged = (CANDIDATE, name), False
    for node in models:
        if node["name"] in marts_by_name:
            mart, meta = marts_by_name[node["name"]], _meta(node)
            mart.description, mart.columns = node["description"], _column_descriptions(node)
            mart.lookups = tuple(map(tuple, meta.get("lookups", ())))
            mart.published, mart.condition = tuple(meta.get("columns", ())), meta.get("part_condition", "true")
    return [marts_by_name[name] for name in sorted(marts_by_name)]


def views(settings: Settings) -> list[View]:
    """The published views of the last build's manifest, by name."""
    view_nodes = [n for n in _models(settings) if n["schema"] == CANDIDATE and _meta(n).get("is_view")]
    return sorted(
        (View(n["name"], n["description"], _column_descriptions(n)) for n in view_nodes), key=lambda v: v.name
    )


def _models(settings: Settings) -> list[Node]:
    nodes = read_manifest(settings)["nodes"].values()
    return [n for n in nodes if n["resource_type"] == "model" and n["config"].get("enabled", True)]


def _column_descriptions(node: Node) -> dict[str, str]:
    return {c["name"]: c["description"] for c in node["columns"].values()}


# Any: a model's meta holds values of several types
def _meta(node: Node) -> dict[str, Any]:
    return node["config"].get("meta") or {}


def _key(node: Node) -> tuple[str, ...]:
    key = node["config"].get("unique_key") or _meta(node).get("key")
    if not key:
        raise NorthstarError(f"the mart {node['name']} has no key: give it unique_key or meta.key in its config")
    return (key,) if isinstance(key, str) else tuple(key)


def _is_logged(node: Node) -> bool:
    return bool(node["config"].get("unique_key"))


def _relation(node: Node) -> tuple[str, str]:
    return node["schema"], node["alias"]
