"""The key of personal data: keyed hashes of identifiers, and sealed values that only who has the key can read.

The secret `pii_key` lives outside the database. It is a ring, oldest key first, separated by commas: a hash is the HMAC by the first
key, of that the HMAC by the second, and so on. A hash that is stored can therefore be brought to a longer ring without the clear value,
and old and new rows still join. After a rotation the older keys may be known: what is stored cannot be tried without the newest.
"""

import base64
import hashlib
import re
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

HASHED = "hashed:"
SEALED = "sealed:"
HASH = re.compile(r"[0-9a-f]{64}")
SEPARATOR = ","


def ring(key: str) -> list[str]:
    """The keys of a ring, oldest first."""
    return [k for k in key.split(SEPARATOR) if k]


def chained(value: str, keys: list[str]) -> str:
    """HMAC-SHA256 by one key after the other, as hex."""
    for key in keys:
        inner, outer = (pad.copy() for pad in _pads(key))
        inner.update(value.encode("utf-8", "surrogatepass"))
        outer.update(inner.digest())
        value = outer.hexdigest()
    return value


@lru_cache(64)
def _pads(key: str) -> tuple["hashlib._Hash", "hashlib._Hash"]:
    """The two halves of an HMAC before the message: `hmac.digest` makes them for each of a million values anew (11 us, 2 with these)."""
    secret = key.encode()
    block = (hashlib.sha256(secret).digest() if len(secret) > 64 else secret).ljust(64, b"\0")
    return hashlib.sha256(bytes(b ^ 0x36 for b in block)), hashlib.sha256(bytes(b ^ 0x5C for b in block))


def keyed_hash(value: str, key: str) -> str:
    """The hash of an identifier, trimmed and in lower case; one that looks like a hash of ours is text like any other."""
    return chained(value.strip().lower(), ring(key))


def kept_hash(value: str) -> str | None:
    """The hash in a value that this home marked as one; None for any other. A source may write the mark too: ask only of what we stored."""
    return value[len(HASHED) :] if value.startswith(HASHED) and HASH.fullmatch(value[len(HASHED) :]) else None


def subject_hash(kind: str, value: str, key: str) -> str:
    """The hash by which an erased identifier is known again: exact, and of its kind."""
    return chained(f"{kind}:{value}", ring(key))


def fingerprint(key: str) -> str:
    """What tells a ring from others and gives nothing of it away."""
    return chained("northstar: which key is this?", ring(key))[:32]


def seal(value: str, key: str) -> str:
    """The value as only the key's holder can read it; equal values give equal seals, so a repeated row is the same row.

    Whatever the value looks like it is sealed: what is opened is always what was delivered.
    """
    sealed = _cipher(ring(key)[-1]).encrypt(value.encode("utf-8", "surrogatepass"), None)
    return SEALED + base64.urlsafe_b64encode(sealed).decode()


def unsealed(value: str, key: str) -> str | None:
    """What a sealed value says; None for a text that no key of the ring has sealed, whatever it begins with.

    A seal is told by its proof (AES-SIV), which nobody can write without the key, in the one spelling that `seal` gives it.
    """
    if not value.startswith(SEALED):
        return None
    try:
        sealed = base64.b64decode(value[len(SEALED) :], b"-_", validate=True)
    except ValueError:
        return None
    if SEALED + base64.urlsafe_b64encode(sealed).decode() != value:
        return None
    for ring_key in reversed(ring(key)):
        try:
            return _cipher(ring_key).decrypt(sealed, None).decode("utf-8", "surrogatepass")
        except (InvalidTag, ValueError):
            continue
    return None


def _cipher(key: str) -> AESSIV:
    return AESSIV(hashlib.sha512(b"northstar: seal " + key.encode()).digest())
