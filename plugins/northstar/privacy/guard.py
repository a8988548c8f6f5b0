"""The guard: what landing needs to protect people, which is the key and the tombstones of erased persons."""

from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from northstar.base.settings import Settings
from northstar.contract import Entity
from northstar.privacy.keys import HASH_MARK, chained_hash, keyed_hash, marked_hash, split_ring, subject_hash
from northstar.privacy.personal import find_address
from northstar.privacy.ring import home_key
from northstar.privacy.subjects import PERSON_COLUMNS
from northstar.warehouse import db

# columns that name another person than the one whose row it is
MENTION_COLUMNS = ("referred_by_account_id",)


@dataclass(frozen=True)
class Guard:
    """The key ring, and the hashes of erased identifiers by kind."""

    key: str
    tombstones: dict[str, frozenset[str]] = field(default_factory=dict)

    def erased_rows(self, entity: Entity, columns: dict[str, pa.Array]) -> pa.Array | None:
        """Which rows are an erased subject's; None when none is."""
        return self._rows_naming(
            columns, {n: k for n, k in _watched_columns(entity).items() if n not in MENTION_COLUMNS}
        )

    def mentioning_rows(self, columns: dict[str, pa.Array]) -> pa.Array | None:
        """Which rows belong to another person and only mention an erased subject; None when none does."""
        return self._rows_naming(columns, {n: PERSON_COLUMNS[n] for n in MENTION_COLUMNS if n in columns})

    def _rows_naming(self, columns: dict[str, pa.Array], watched: dict[str, tuple[str, ...]]) -> pa.Array | None:
        matching_rows = None
        for name, kinds in watched.items():
            for kind in kinds:
                tombstones = self.tombstones.get(kind)
                if not tombstones:
                    continue
                values = [v for v in pc.unique(columns[name]).to_pylist() if v is not None]
                erased_values = [v for v in values if not tombstones.isdisjoint(_hashes(kind, v, self.key))]
                if erased_values:
                    mask = pc.is_in(columns[name], pa.array(erased_values, pa.string()))
                    matching_rows = mask if matching_rows is None else pc.or_(matching_rows, mask)
        return matching_rows


def pseudonym(value: str, key: str) -> str:
    """An identifier as it lands. One that is an e-mail address, in any spelling, or that looks like a hash of ours, lands as a hash."""
    address = find_address(value) or (value if marked_hash(value) else None)
    return HASH_MARK + keyed_hash(address, key) if address else value


def _hashes(kind: str, value: str, key: str) -> list[str]:
    """The tombstone hashes that an erased identifier may have: its own, and those of the hashes as which it landed under shorter rings."""
    keys, hashes = split_ring(key), [subject_hash(kind, value, key)]
    if pseudonym(value, key) != value:
        landed_names = (pseudonym(value, ",".join(keys[: n + 1])) for n in range(len(keys)))
        hashes += [chained_hash(f"{kind}:{name}", keys) for name in landed_names]
    return hashes


def landing_guard(settings: Settings) -> Guard:
    """The guard of a home. Raises NorthstarError when the home's key is not the warehouse's."""
    key = home_key(settings)
    with db.connect(settings, "loader") as connection:
        rows = connection.execute(
            "select kind, array_agg(hash) as hashes from audit.tombstones group by kind"
        ).fetchall()
    return Guard(key, {row["kind"]: frozenset(row["hashes"]) for row in rows})


def _watched_columns(entity: Entity) -> dict[str, tuple[str, ...]]:
    watched = {name: PERSON_COLUMNS[name] for name in entity.columns if name in PERSON_COLUMNS}
    # a ticket that names its requester by address alone is recognised by its own number
    return watched | ({"ticket_id": ("ticket",)} if entity.name == "tickets" else {})
