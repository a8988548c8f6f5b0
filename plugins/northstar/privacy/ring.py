"""The home's key ring. It has to be the one that the warehouse's hashes were made with, or new hashes would join with nothing."""

import os

from northstar.base.errors import NorthstarError
from northstar.base.settings import Settings
from northstar.privacy.keys import fingerprint
from northstar.warehouse import db

SECRET, NEXT = "pii_key", "pii_key_next"


def adopt_ring(settings: Settings, next_ring: str) -> None:
    """Have the home use the longer ring from now on. A key that comes from the environment has to be changed there."""
    if not os.environ.get(f"NORTHSTAR_SECRET_{SECRET.upper()}"):
        settings.keep_secrets({SECRET: next_ring, NEXT: None})


def home_key(settings: Settings) -> str:
    """The key ring that the warehouse's hashes are made with. The first call on a warehouse binds it to the home's ring.

    If a rotation was killed after its commit, the home takes the new ring here. Raises NorthstarError when the home has another key.
    """
    if settings.known_secret(SECRET) is None and not db.has_administrator(settings):
        # a key that is made up on one of several machines would not be known to the others
        raise NorthstarError(
            f"pii_key, with which identifiers are hashed, is not known here: set NORTHSTAR_SECRET_{SECRET.upper()}, to the same value on each machine"
        )
    key = settings.secret(SECRET)
    with db.connect(settings, "loader") as connection:
        bound = connection.execute("select fingerprint from audit.pii_keys order by generation desc limit 1").fetchone()
        if bound is None:
            connection.execute(
                "insert into audit.pii_keys (generation, fingerprint) values (1, %s) on conflict do nothing",
                [fingerprint(key)],
            )
            return key
    if bound["fingerprint"] == fingerprint(key):
        return key
    next_ring = settings.known_secret(NEXT)
    if next_ring and bound["fingerprint"] == fingerprint(next_ring):
        adopt_ring(settings, next_ring)
        return next_ring
    raise NorthstarError(
        "pii_key is not the key that this warehouse's identifiers were hashed with: new rows would not join with existing ones; "
        "restore the old key (secrets.json in the home, or NORTHSTAR_SECRET_PII_KEY), and change it with `northstar rotate-key`"
    )
