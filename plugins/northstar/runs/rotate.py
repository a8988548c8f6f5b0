"""Rotating the key: a new key is added to the ring, and every stored hash is hashed once more with it (northstar.privacy.keys).

It is one transaction over all schemas, so that no row is hashed twice or not at all, whatever is killed. Until it commits, the new ring waits
in the secret `pii_key_next`. A nightly run then proves that a full build of the landed rows gives what is published. If a rotation is killed
after its transaction, the new key is in use but not proved: its row in `audit.pii_keys` has no published version, and the next call finishes
it instead of beginning another one.
"""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from northstar.audit.worker import Worker
from northstar.base.errors import NorthstarError
from northstar.base.progress import Progress
from northstar.base.settings import Settings
from northstar.extract.landing.personal_values import personal_columns, plain_name
from northstar.privacy.keys import (
    HASH_MARK,
    HASH_PATTERN,
    SEAL_MARK,
    SEPARATOR,
    chained_hash,
    fingerprint,
    marked_hash,
    seal,
    unseal,
)
from northstar.privacy.personal import parse_document
from northstar.privacy.ring import NEXT, adopt_ring, home_key
from northstar.privacy.subjects import HASH_COLUMNS, PERSON_COLUMNS
from northstar.runs import job
from northstar.runs.erase.rewrite import rewrite
from northstar.runs.preview.scratch import drop_previews
from northstar.warehouse import db, lake, turn_lock
from northstar.warehouse.rights import act_as_owner
from northstar.warehouse.rows import Connection, fetch_one
from northstar.warehouse.setup import bootstrap

HASHED_SCHEMAS = ("core", "marts_candidate", "marts", "marts_history", "staging")
# the published_version of a rotation in a warehouse that has published nothing
NOTHING_PUBLISHED = 0


@dataclass(frozen=True)
class Rotation:
    """What a rotation did. generation: keys on the ring; hashes: distinct hashes, seals: documents with sealed values, that now have the new key.

    unopened: texts that begin like sealed ones but that no key of the ring opens; they are left as they are. was_interrupted: an earlier call
    was killed and this one finished its work, so nothing was counted.
    """

    generation: int
    hashes: int = 0
    seals: int = 0
    unopened: int = 0
    was_interrupted: bool = False


def rotate_key(settings: Settings, progress: Progress = print, worker: Worker | None = None) -> Rotation:
    """Add a new key to the ring, bring everything that is stored to it, and publish a full build.

    Raises NorthstarError when the key comes from the environment and NORTHSTAR_SECRET_PII_KEY_NEXT does not hold the longer ring.
    """
    db.require_administrator(settings, "a change of the key")
    bootstrap(settings)
    key, rotation = home_key(settings), _interrupted_rotation(settings)
    next_ring = "" if rotation else _next_ring(settings, key)

    def change(run_id: int) -> None:
        nonlocal rotation
        if rotation is None:
            progress("converting hashes and sealed values ...")
            rotation = _rehash_everything(settings, key, next_ring, run_id)
            adopt_ring(settings, next_ring)
        # the withdrawn files hold hashes of the former key
        lake.sweep(settings)

    version = job.run_change(settings, "rotation", change, "nightly", progress, worker)
    # the run has called `change`
    assert rotation is not None
    rewrite(settings, {}, progress, "the new key is in use; then `northstar rotate-key` rewrites the tables")
    with db.connect(settings, "loader") as connection:
        connection.execute(
            "update audit.pii_keys set published_version = %s where generation = %s",
            [version or NOTHING_PUBLISHED, rotation.generation],
        )
    return rotation


def _interrupted_rotation(settings: Settings) -> Rotation | None:
    """The newest rotation, if it was killed between its commit and its publication; else None."""
    with db.connect(settings, "loader") as connection:
        newest = fetch_one(connection.execute("select * from audit.pii_keys order by generation desc limit 1"))
    # the first key came by no rotation
    if newest["generation"] == 1 or newest["published_version"] is not None:
        return None
    return Rotation(newest["generation"], was_interrupted=True)


def _next_ring(settings: Settings, key: str) -> str:
    """The ring with one more key, stored as a secret before anything is hashed with it."""
    next_ring = settings.known_secret(NEXT)
    # an earlier release that was killed between two writes left the ring in use there as well
    if next_ring and next_ring != key:
        if not next_ring.startswith(key + SEPARATOR):
            raise NorthstarError("pii_key_next must be the ring that is in use, a comma, and the new key")
        return next_ring
    if os.environ.get("NORTHSTAR_SECRET_PII_KEY"):
        raise NorthstarError(
            "this home's pii_key comes from the environment: set NORTHSTAR_SECRET_PII_KEY_NEXT to it, a comma, and a new key "
            "(python3 -c 'import secrets; print(secrets.token_urlsafe(24))'), run this again, and then set NORTHSTAR_SECRET_PII_KEY to the same"
        )
    new_ring = f"{key}{SEPARATOR}{secrets.token_urlsafe(24)}"
    settings.keep_secret(NEXT, new_ring)
    return new_ring


def _rehash_everything(settings: Settings, key: str, next_ring: str, run_id: int | None = None) -> Rotation:
    new = next_ring.rsplit(SEPARATOR, 1)[1]
    with db.connect(settings, "owner", database=None if settings.warehouse_url else db.DATABASE) as connection:
        turn_lock.keep(connection, run_id)
        drop_previews(connection)
        generation = fetch_one(connection.execute("select max(generation) + 1 as n from audit.pii_keys"))["n"]
        columns = connection.execute(
            "select n.nspname as schema, c.relname as table, a.attname as column, format_type(a.atttypid, null) as type from pg_attribute as a "
            "join pg_class as c on c.oid = a.attrelid join pg_namespace as n on n.oid = c.relnamespace where n.nspname = any(%s) "
            "and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped order by 1, 2, 3", [list(HASHED_SCHEMAS)],
        ).fetchall()  # fmt: skip
        connection.execute("create temp table rehashed (old text primary key, new text not null) on commit drop")
        # the tables are changed as the owners of their schemas, and all of them use it
        connection.execute("grant select, insert on rehashed to public")
        renewal = _Renewer(key, next_ring)
        for schema in HASHED_SCHEMAS:
            for c in (c for c in columns if c["schema"] == schema):
                place = f'{schema}."{c["table"]}"'
                if c["type"] == "text" and c["column"] in HASH_COLUMNS:
                    _rehash(connection, schema, place, c["column"], new)
                elif c["type"] == "text" and (c["column"] in PERSON_COLUMNS or c["column"].endswith("_id")):
                    _rehash(connection, schema, place, c["column"], new, HASH_MARK)
                elif c["type"] in ("json", "jsonb"):
                    is_row = (schema, c["table"], c["column"]) == ("staging", "_replaced", "row")
                    renewed = (
                        renewal.renew_landed
                        if is_row
                        else renewal.renew_extra
                        if c["column"] == "_extra"
                        else renewal.renew_document
                    )
                    _renew(connection, schema, place, c["column"], renewed)
        _renew(connection, "quarantine", "quarantine.rows", "row", renewal.renew_rejected)
        seals = renewal.documents
        _rehash(connection, "audit", "audit.tombstones", "hash", new)
        for row in connection.execute("select erasure_id, subjects from audit.erasures").fetchall():
            subjects = [chained_hash(s, [new]) for s in row["subjects"]]
            connection.execute(
                "update audit.erasures set subjects = %s where erasure_id = %s", [subjects, row["erasure_id"]]
            )
        connection.execute(
            "insert into audit.pii_keys (generation, fingerprint) values (%s, %s)", [generation, fingerprint(next_ring)]
        )
        for name in lake.WIDE_ENTITIES:
            lake.withdraw(connection, name)
        hashes = fetch_one(connection.execute("select count(*) as n from rehashed"))["n"]
    return Rotation(generation, hashes, seals, renewal.unopened)


def _rehash(connection: Connection, schema: str, place: str, column: str, new: str, mark: str = "") -> None:
    """Hash a column's values with the new key as well, each value once for all tables. mark: the prefix that hashes have in this column."""
    act_as_owner(connection, schema)
    unknown = (
        f'select distinct t."{column}" as v from {place} as t left join pg_temp.rehashed as r on r.old = t."{column}" '
        f"where t.\"{column}\" ~ '^{mark}{HASH_PATTERN.pattern}$' and r.old is null"
    )
    for lot in db.fetch_lots(connection, unknown, fetch_size=db.LOT_ROWS):
        with connection.cursor().copy("copy pg_temp.rehashed from stdin") as copy:
            for row in lot:
                copy.write_row((row["v"], mark + chained_hash(row["v"].removeprefix(mark), [new])))
    # only the table's owner may analyze it; without statistics the join below is planned as if it were empty
    connection.execute("reset role")
    connection.execute("analyze pg_temp.rehashed")
    act_as_owner(connection, schema)
    connection.execute(
        f'update {place} as t set "{column}" = r.new from pg_temp.rehashed as r where t."{column}" = r.old'
    )


def _renew(connection: Connection, schema: str, place: str, column: str, renew: Callable[[object], object]) -> None:
    """Bring the documents of a JSON column to the new key. renew: turns a document into the one with the new key."""
    act_as_owner(connection, schema)
    query = f'select ctid::text as place, "{column}"::text as v from {place} where "{column}"::text ~ \'sealed:|[0-9a-f]{{64}}\''
    # the cursor sees the table as it was before the updates
    for lot in db.fetch_lots(connection, query):
        changed_rows = []
        for row in lot:
            document = orjson.loads(row["v"])
            renewed_document = renew(document)
            if renewed_document != document:
                changed_rows.append((orjson.dumps(renewed_document).decode(), row["place"]))
        connection.cursor().executemany(f'update {place} set "{column}" = %s where ctid = %s::tid', changed_rows)


class _Renewer:
    """Turns stored documents into those under the longer ring.

    A document may hold text of a source that looks like ours. A hash is ours only under the names and in the places where landing puts
    hashes; a sealed value is ours when its proof holds.
    """

    def __init__(self, key: str, next_ring: str):
        self.key, self.next_ring, self.new = key, next_ring, next_ring.rsplit(SEPARATOR, 1)[1]
        self.documents = self.unopened = 0

    def renew_document(self, value: object) -> object:
        """A JSON document as a source wrote it, with sealed values in it."""
        renewed = self._renew_leaves(value)
        self.documents += renewed != value
        return renewed

    def renew_extra(self, value: object) -> object:
        """An `_extra` document: unknown columns by name. A column with the name of a hash column of the contract holds a hash without a mark."""
        return self._renew_row(value, self._renew_unknown_column)

    def renew_rejected(self, value: object) -> object:
        """A quarantined row: columns by name. A column with the name of a hash column of the contract holds a hash with its mark."""
        return self._renew_row(
            value, lambda name, v: self._renew_marked_hash(v) if _is_hash_name(name) else self._renew_leaves(v)
        )

    def renew_landed(self, value: object) -> object:
        """A landed row as JSON: hash columns hold hashes without a mark, identifier columns hold hashes with the mark."""
        return self._renew_row(value, self._renew_column)

    def _renew_row(self, value: object, column: Callable[[str, object], object]) -> object:
        """A row with each value renewed. column: (name, value) -> the new value."""
        if not isinstance(value, dict):
            return value
        renewed = {name: column(name, v) for name, v in value.items()}
        self.documents += renewed != value
        return renewed

    def _renew_unknown_column(self, name: str, value: object) -> object:
        return self._renew_bare_hash(value) if _is_hash_name(name) else self._renew_leaves(value)

    def _renew_column(self, name: str, value: object) -> object:
        if name in HASH_COLUMNS:
            return self._renew_bare_hash(value)
        if name in PERSON_COLUMNS or name.endswith("_id"):
            return self._renew_marked_hash(value)
        if name == "_extra" and isinstance(value, dict):
            return {k: self._renew_unknown_column(k, v) for k, v in value.items()}
        return self._renew_leaves(value)

    def _renew_bare_hash(self, value: object) -> object:
        return chained_hash(value, [self.new]) if isinstance(value, str) and HASH_PATTERN.fullmatch(value) else value

    def _renew_marked_hash(self, value: object) -> object:
        stored_hash = marked_hash(value) if isinstance(value, str) else None
        return HASH_MARK + chained_hash(stored_hash, [self.new]) if stored_hash else self._renew_leaves(value)

    def _renew_leaves(self, value: object) -> object:
        if isinstance(value, dict):
            return {k: self._renew_leaves(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self._renew_leaves(v) for v in value]
        if not isinstance(value, str) or SEAL_MARK not in value:
            return value
        document = parse_document(value)
        if document is not None:
            # a JSON document that was delivered as text
            renewed = self._renew_leaves(document)
            return value if renewed == document else orjson.dumps(renewed).decode()
        plain_text = unseal(value, self.key)
        self.unopened += plain_text is None and value.startswith(SEAL_MARK)
        return value if plain_text is None else seal(plain_text, self.next_ring)


def _is_hash_name(name: str) -> bool:
    return personal_columns().get(plain_name(name)) == "hash"
