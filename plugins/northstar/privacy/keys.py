"""The key of personal data: keyed hashes of identifiers, and sealed values that can be read only with the key.

The secret `pii_key` is kept outside the database. It is a ring of keys, oldest first, separated by commas. A hash is the HMAC with the first
key, then the HMAC of that with the second, and so on. So a stored hash can be brought to a longer ring without the clear value, and old and
new rows still join. After a rotation the older keys may become known: without the newest one nobody can test guesses against stored hashes.
"""

import base64
import hashlib
import re
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

HASH_MARK = "hashed:"
SEAL_MARK = "sealed:"
HASH_PATTERN = re.compile(r"[0-9a-f]{64}")
SEPARATOR = ","


def split_ring(key: str) -> list[str]:
    """The keys of a ring, oldest first."""
    return [k for k in key.split(SEPARATOR) if k]


def chained_hash(value: str, keys: list[str]) -> str:
    """The HMAC-SHA256 of a value with one key after the other, in hexadecimal."""
    for key in keys:
        inner, outer = (pad.copy() for pad in _pads(key))
        inner.update(value.encode("utf-8", "surrogatepass"))
        outer.update(inner.digest())
        value = outer.hexdigest()
    return value


@lru_cache(64)
def _pads(key: str) -> tuple["hashlib._Hash", "hashlib._Hash"]:
    """The inner and outer hash of an HMAC before the message. `hmac.digest` would make them again for each value (11 us, with these 2 us)."""
    secret = key.encode()
    block = (hashlib.sha256(secret).digest() if len(secret) > 64 else secret).ljust(64, b"\0")
    return hashlib.sha256(bytes(b ^ 0x36 for b in block)), hashlib.sha256(bytes(b ^ 0x5C for b in block))


def keyed_hash(value: str, key: str) -> str:
    """The hash of an identifier, which is trimmed and put in lower case first. An identifier that looks like a hash of ours is hashed as well."""
    return chained_hash(value.strip().lower(), split_ring(key))


def marked_hash(value: str) -> str | None:
    """The hash in a value that this home marked as a hash; None for any other. Only for stored values: a source could write the mark too."""
    return (
        value[len(HASH_MARK) :]
        if value.startswith(HASH_MARK) and HASH_PATTERN.fullmatch(value[len(HASH_MARK) :])
        else None
    )


def subject_hash(kind: str, value: str, key: str) -> str:
    """The hash by which an erased identifier is recognised: of the exact value and its kind."""
    return chained_hash(f"{kind}:{value}", split_ring(key))


def fingerprint(key: str) -> str:
    """A text that identifies a ring without revealing its keys."""
    return chained_hash("northstar: which key is this?", split_ring(key))[:32]


def seal(value: str, key: str) -> str:
    """The value, encrypted with the newest key of the ring. Equal values give equal seals, so a repeated row is the same row.

    Every value is sealed, even one that looks sealed: opening it always gives what was delivered.
    """
    sealed = _cipher(split_ring(key)[-1]).encrypt(value.encode("utf-8", "surrogatepass"), None)
    return SEAL_MARK + base64.urlsafe_b64encode(sealed).decode()


def unseal(value: str, key: str) -> str | None:
    """The clear text of a sealed value; None for a text that no key of the ring has sealed, whatever it begins with.

    A seal is recognised by its proof (AES-SIV), which nobody can write without the key, and only in the spelling that `seal` gives it.
    """
    if not value.startswith(SEAL_MARK):
        return None
    try:
        sealed = base64.b64decode(value[len(SEAL_MARK) :], b"-_", validate=True)
    except ValueError:
        return None
    if SEAL_MARK + base64.urlsafe_b64encode(sealed).decode() != value:
        return None
    for ring_key in reversed(split_ring(key)):
        try:
            return _cipher(ring_key).decrypt(sealed, None).decode("utf-8", "surrogatepass")
        except (InvalidTag, ValueError):
            continue
    return None


def _cipher(key: str) -> AESSIV:
    return AESSIV(hashlib.sha512(b"northstar: seal " + key.encode()).digest())
