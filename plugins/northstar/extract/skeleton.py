"""The skeleton of a new connector: its module, its test and its line in the docs, with TODO where the system has to be known."""

import re
from pathlib import Path

from northstar.base.config_files import suggest_name
from northstar.base.errors import NorthstarError
from northstar.contract import entities
from northstar.extract.sources.declared import HELPERS, systems

MODULE = '''"""{title}: {entity}, from TODO the address that lists them, oldest change first."""

from collections.abc import Iterator

from northstar.connections.find import Connection
from northstar.extract.sources.declared import Page, Source, State
from northstar.extract.sources.http import HttpClient

ENTITIES = ("{entity}",)


def connect(source: Source, connection: Connection) -> "{name_of_class}":
    """A reader of the system."""
    headers = {{"Authorization": f"Bearer {{connection.secret()}}"}}  # TODO: how the system wants its secret
    return {name_of_class}(HttpClient(connection.url(), headers, source.per_second or 5))


class {name_of_class}:
    """Reads {title} over its API."""

    def __init__(self, http: HttpClient):
        self.http = http

    def check(self) -> str:
        """Whose account it is; raises if the secret may not read it."""
        return f"{title} of {{self.http.get('me')['company']}}"  # TODO: a request that every secret may make

    def read(self, entity: str, state: State | None) -> Iterator[Page]:
        """Pages of changed rows since the state."""
        after, more = (state or {{}}).get("after", ""), True
        while more:
            answer = self.http.get("{entity}", {{"after": after}})  # TODO: the request for rows changed since `after`
            rows = [
                {{
{columns}
                }}
                for item in answer["items"]
            ]
            # the system's own cursor, not a page number: that would skip a row when another one changes
            after, more = answer["after"], answer["more"]
            yield Page(rows, {{"after": after}})
'''

TEST = '''"""{title}: rows land, and the next reading begins where the last one ended."""

from northstar.extract.landing.source import land_source
from northstar.extract.sources.declared import Source
from tests.support import empty, json_server, silent

SOURCE = Source("{name}", "{name}", "{name}", ("{entity}",))
# TODO: an item as the system gives it, copied from its documentation
FIRST = {{}}


def test_rows_land_and_only_changes_come_after(warehouse, monkeypatch):
    empty(warehouse)
    asked = []

    def answer(path, query):
        asked.append(query["after"])
        return {{"items": [] if query["after"] else [FIRST], "after": "1", "more": False}}

    with json_server(answer) as address:
        monkeypatch.setenv("AIRFLOW_CONN_{upper}", address.replace("http://", "http://:token@") + "/http")
        assert land_source(warehouse, None, SOURCE, silent).landed.inserted == 1
        land_source(warehouse, None, SOURCE, silent)
    assert asked == ["", "1"]
'''


def new_source(root: Path, name: str, entity: str) -> list[Path]:
    """Write the skeleton of a connector for one entity; returns its files.

    root: the checkout. Raises NorthstarError for a name that is taken or cannot be one, an unknown entity, and where there is no checkout.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise NorthstarError(f"{name!r} is no name: use small letters, digits and _, beginning with a letter")
    if name in (*systems(), *HELPERS):
        raise NorthstarError(f"there is a connector {name!r} already")
    if entity not in entities():
        raise NorthstarError(f"there is no entity {entity!r}; {suggest_name(entity, entities())}")
    module = root / "plugins" / "northstar" / "extract" / "sources" / f"{name}.py"
    test, page = root / "tests" / "extract" / "sources" / f"test_{name}.py", root / "docs" / "sources.md"
    if not module.parent.exists() or not test.parent.exists():
        raise NorthstarError(f"{root} is no checkout of Northstar: a connector is code, and needs one")
    contract = entities()[entity]
    wanted = [column for column in contract.columns.values() if column.required or column.name in contract.key]
    words = {
        "name": name, "entity": entity, "title": name.replace("_", " ").title(), "upper": name.upper(),
        "name_of_class": "".join(part.title() for part in name.split("_")),
        "columns": "\n".join(f'                    "{column.name}": item["{column.name}"],  # TODO' for column in wanted),
    }  # fmt: skip
    module.write_text(MODULE.format(**words))
    test.write_text(TEST.format(**words))
    page.write_text(
        page.read_text().rstrip("\n")
        + f"\n\n## {words['title']}\n- TODO: what of {entity} it cannot give, and what it makes of what the contract does not know.\n"
    )
    return [module, test, page]
