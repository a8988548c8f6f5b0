"""Which marts there are, and what the candidate relations behind them are, read from dbt's manifest."""

from dataclasses import dataclass, field

from northstar.errors import NorthstarError
from northstar.manifest import read_manifest
from northstar.settings import Settings


@dataclass
class Mart:
    """A published table: its key and the candidate relations whose union it is.

    Relations that are built incrementally log the keys that changed; the others (`is_logged` false) are compared whole.
    """

    name: str
    key: tuple
    description: str = ""
    columns: dict = field(default_factory=dict)
    parts: list = field(default_factory=list)
    is_logged: bool = True


def marts(settings: Settings) -> list[Mart]:
    """The marts of the last build's manifest, by name.

    Raises NorthstarError when nothing was built or a mart has no key.
    """
    nodes = read_manifest(settings)["nodes"].values()
    models = [n for n in nodes if n["resource_type"] == "model" and n["config"].get("enabled", True)]
    found = {}
    for node in models:
        if node["schema"] == "marts_candidate" and not _meta(node).get("is_union"):
            found[node["name"]] = Mart(node["name"], _key(node), is_logged=_is_logged(node), parts=[_relation(node)])
    for node in models:
        union = _meta(node).get("mart")
        if union:
            mart = found.setdefault(union, Mart(union, _key(node)))
            mart.parts.append(_relation(node))
    for node in models:
        if node["name"] in found:
            found[node["name"]].description = node["description"]
            found[node["name"]].columns = {c["name"]: c["description"] for c in node["columns"].values()}
    return [found[name] for name in sorted(found)]


def _meta(node: dict) -> dict:
    return node["config"].get("meta") or {}


def _key(node: dict) -> tuple:
    key = node["config"].get("unique_key") or _meta(node).get("key")
    if not key:
        raise NorthstarError(f"the mart {node['name']} names no key: give it unique_key or meta.key in its config")
    return (key,) if isinstance(key, str) else tuple(key)


def _is_logged(node: dict) -> bool:
    return node["config"].get("materialized") == "incremental"


def _relation(node: dict) -> tuple:
    return node["schema"], node["alias"]
