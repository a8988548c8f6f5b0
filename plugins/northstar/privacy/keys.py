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

from northstar.errors import NorthstarError

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
def _pads(key: str) -> tuple:
    """The two halves of an HMAC before the message: `hmac.digest` makes them for each of a million values anew (11 us, 2 with these)."""
    secret = key.encode()
    block = (hashlib.sha256(secret).digest() if len(secret) > 64 else secret).ljust(64, b"\0")
    return hashlib.sha256(bytes(b ^ 0x36 for b in block)), hashlib.sha256(bytes(b ^ 0x5C for b in block))


def keyed_hash(value: str, key: str) -> str:
    """The hash of an identifier, trimmed and in lower case; one that is marked as hashed already is left as it is."""
    if value.startswith(HASHED) and HASH.fullmatch(value[len(HASHED) :]):
        return value[len(HASHED) :]
    return chained(value.strip().lower(), ring(key))


def subject_hash(kind: str, value: str, key: str) -> str:
    """The hash by which an erased identifier is known again: exact, and of its kind."""
    return chained(f"{kind}:{value}", ring(key))


def fingerprint(key: str) -> str:
    """What tells a ring from others and gives nothing of it away."""
    return chained("northstar: which key is this?", ring(key))[:32]


def seal(value: str, key: str) -> str:
    """The value as only the key's holder can read it; equal values give equal seals, so a repeated row is the same row."""
    if is_sealed(value, key):
        return value
    sealed = _cipher(ring(key)[-1]).encrypt(value.encode("utf-8", "surrogatepass"), None)
    return SEALED + base64.urlsafe_b64encode(sealed).decode()


def unseal(value: str, key: str) -> str:
    """What a sealed value says. Raises NorthstarError when it was sealed with a key that is not on the ring."""
    for one in reversed(ring(key)):
        opened = _opened(value, one)
        if opened is not None:
            return opened
    raise NorthstarError("this value was sealed with another key than this home's pii_key; it cannot be read here")


def is_sealed(value: str, key: str) -> bool:
    """Whether the newest key opens the value."""
    return value.startswith(SEALED) and _opened(value, ring(key)[-1]) is not None


def _opened(value: str, key: str) -> str | None:
    try:
        sealed = base64.urlsafe_b64decode(value[len(SEALED) :])
        return _cipher(key).decrypt(sealed, None).decode("utf-8", "surrogatepass")
    except (InvalidTag, ValueError):
        return None


def _cipher(key: str) -> AESSIV:
    return AESSIV(hashlib.sha512(b"northstar: seal " + key.encode()).digest())
