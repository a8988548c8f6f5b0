"""Personal values of a row: hashed, left out, or sealed where nobody knows what they are (northstar.privacy)."""

import re
import unicodedata
from collections.abc import Callable
from functools import cache, lru_cache, partial

import pyarrow as pa
import pyarrow.compute as pc

from northstar.base import exact_json
from northstar.contract import FREE_TEXT_COLUMNS, Column, Entity, entities
from northstar.contract.codes import CODES
from northstar.extract.landing.casts import DEEPEST, is_deep
from northstar.privacy.guard import pseudonym
from northstar.privacy.keys import HASH_MARK, SEAL_MARK, keyed_hash, marked_hash, seal
from northstar.privacy.names import is_personal_name
from northstar.privacy.personal import (
    FIRST_LOOK,
    FIRST_LOOK_AT_ADDRESSES,
    FIRST_LOOK_AT_TEXT,
    TIME,
    is_personal,
    is_prose,
    is_yes_or_no,
    parse_document,
    redact,
    remove_addresses,
)
from northstar.warehouse.rows import Row

SHORT_NUMBER = re.compile(r"[+-]?(\d{1,6}([.,]\d{1,6})?)?")
# the signs of an e-mail address, encoded or not, and the beginning of our hashes
ADDRESS_SIGNS = (b"@", b"%", b"&", b"\\u", HASH_MARK.encode())


@cache
def personal_columns() -> dict[str, str]:
    """Names (see plain_name) that stand for personal data in any entity, with what to do ('hash' or 'drop')."""
    treatments: dict[str, str] = {}
    for entity in entities().values():
        for column in entity.columns.values():
            name = plain_name(column.name)
            if column.pii and treatments.get(name) != "drop":
                treatments[name] = column.pii
    return treatments


@lru_cache(10_000)
def plain_name(name: str) -> str:
    """A column's name in one form: `E-Mail`, ` email` and `e_mail` are the same name."""
    return "".join(c for c in unicodedata.normalize("NFKC", str(name)).casefold() if c.isalnum())


def storable(row: Row, key: str, entity: Entity | None = None, mark: str = HASH_MARK, is_replay: bool = False) -> Row:
    """A raw row as it may be stored: identifiers hashed, other personal data left out, what looks personal sealed.

    entity: the row's entity; without one nothing is known about its columns, nor whether a value is in the right one.
    mark: what a hash begins with. is_replay: the row was in quarantine, and its hashes are ours.
    """
    personal = personal_columns()
    stored_row: Row = {}
    for name, value in row.items():
        treatment = personal.get(plain_name(name))
        if treatment is None:
            column = entity.columns.get(name) if entity else None
            stored_row[safe_name(str(name))] = _storable_value(str(name), value, key, column)
        elif treatment == "hash" and value is not None:
            stored_row[name] = mark + _hash(str(value), key, is_replay)
    return stored_row


@lru_cache(2_000)
def safe_name(name: str) -> str:
    return redact(name)


def _hash(value: str, key: str, is_replay: bool) -> str:
    """The keyed hash of an identifier. An identifier that comes out of quarantine is a hash already, and stays as it is."""
    return (marked_hash(value) if is_replay else None) or keyed_hash(value, key)


def _storable_value(name: str, value: object, key: str, column: Column | None) -> object:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if value is None or isinstance(value, bool):
        return value
    if column is None and is_personal_name(name) and not (isinstance(value, str) and is_yes_or_no(value)):
        return seal(_as_text(value), key)
    # free text is expected only in a column of type text without a list of values
    is_free = column is None or column.type != "text" or bool(column.values)
    document = parse_document(value) if isinstance(value, str) else value
    if isinstance(document, dict | list | tuple):
        if isinstance(value, str) and is_deep(value, document):
            return seal(value, key)
        scrubbed = _scrub(document, key, is_free and (column is None or column.type != "json"))
        return value if scrubbed == document else _as_text(scrubbed) if isinstance(value, str) else scrubbed
    if column is not None and column.code and str(value).strip().upper() not in CODES[column.code]:
        return seal(str(value), key)
    return _storable_scalar(value, key, is_free)


def _storable_scalar(value: object, key: str, is_free: bool) -> object:
    """One value as it may be stored. is_free: what people write is sealed whatever it says."""
    if not isinstance(value, str):
        return seal(str(value), key) if isinstance(value, int) and is_personal(str(value)) else value
    if TIME.fullmatch(value):
        return value
    # a value that looks sealed is sealed, too: so every stored value that can be opened was sealed by this home
    if value.startswith(SEAL_MARK) or is_personal(value) or (is_free and is_prose(value)):
        return seal(value, key)
    return value


def seal_row(row: Row, key: str) -> Row:
    """A raw row whose values may be in the wrong columns: everything is sealed but short numbers and times."""
    return {
        safe_name(str(name)): seal(value, key) if isinstance(value, str) and not _is_plain(value) else value
        for name, value in row.items()
    }


def _is_plain(text: str) -> bool:
    return bool(SHORT_NUMBER.fullmatch(text.strip()) or TIME.fullmatch(text.strip()))


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else exact_json.dumps(value)


def _scrub(document: object, key: str, is_free: bool, levels: int = DEEPEST) -> object:
    """A JSON document in which everything is sealed that its keys call personal, or that looks so; also in documents within it that are text.

    is_free: free text is sealed whatever it says. levels: what lies deeper is sealed whole.
    """
    if isinstance(document, bytes):
        document = document.decode("utf-8", "replace")
    if isinstance(document, dict | list | tuple) and not levels:
        return seal(_as_text(document), key)
    if isinstance(document, dict):
        return {
            safe_name(str(k)): seal(_as_text(v), key)
            if v is not None
            and not isinstance(v, bool)
            and is_personal_name(str(k))
            and not (isinstance(v, str) and is_yes_or_no(v))
            else _scrub(v, key, is_free, levels - 1)
            for k, v in document.items()
        }
    if isinstance(document, list | tuple):
        return [_scrub(v, key, is_free, levels - 1) for v in document]
    if isinstance(document, str) and (inner_document := parse_document(document)) is not None:
        if is_deep(document, inner_document):
            return seal(document, key)
        scrubbed = _scrub(inner_document, key, is_free, levels - 1)
        return document if scrubbed == inner_document else _as_text(scrubbed)
    return _storable_scalar(document, key, is_free)


def without_personal_data(column: Column, array: pa.Array, key: str, is_replay: bool) -> pa.Array:
    if column.pii == "hash":
        return _hash_column(array, key, is_replay)
    if column.type == "json":
        return _change_matches(array, f"{FIRST_LOOK}|{SEAL_MARK}", partial(_scrub_text, key=key))
    if column.type == "text" and not column.values:
        if column.name not in FREE_TEXT_COLUMNS and not _may_hold_address(array):
            return array
        if column.name.endswith("_id"):
            # an identifier has to stay an identifier: the same address is the same hash everywhere
            return _change_matches(array, f"{FIRST_LOOK_AT_ADDRESSES}|^{HASH_MARK}", partial(pseudonym, key=key))
        if column.name not in FREE_TEXT_COLUMNS:
            return _change_matches(array, FIRST_LOOK_AT_ADDRESSES, remove_addresses)
        return _change_matches(array, FIRST_LOOK_AT_TEXT, redact)
    return array


def _may_hold_address(array: pa.Array) -> bool:
    """Whether any text of a column has a sign of an address, or looks like a hash of ours. It searches all bytes of the column at once."""
    data = array.buffers()[2]
    if data is None:
        return False
    text = data.to_pybytes()
    return not text.isascii() or any(sign in text for sign in ADDRESS_SIGNS)


def _hash_column(array: pa.Array, key: str, is_replay: bool) -> pa.Array:
    encoded = array.dictionary_encode()
    hashes = [None if v is None else _hash(v, key, is_replay) for v in encoded.dictionary.to_pylist()]
    return pa.array(hashes, pa.string()).take(encoded.indices)


def _change_matches(array: pa.Array, pattern: str, change: Callable[[str], str]) -> pa.Array:
    """The array with the values that hold a pattern changed."""
    has_pattern = pc.fill_null(pc.match_substring_regex(array, pattern), False)
    if not pc.any(has_pattern).as_py():
        return array
    encoded = array.filter(has_pattern).dictionary_encode()
    changed = pa.array([change(v) for v in encoded.dictionary.to_pylist()], pa.string()).take(encoded.indices)
    return pc.replace_with_mask(array, has_pattern, changed)


def _scrub_text(text: str, key: str) -> str:
    document = exact_json.loads(text.encode())
    scrubbed = _scrub(document, key, is_free=False)
    return text if scrubbed == document else exact_json.dumps(scrubbed)
