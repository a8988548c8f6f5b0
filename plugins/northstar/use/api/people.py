"""People who ask the API themselves: with an access token of the provider that readers.yml names, or through a trusted proxy.

An access token is a JWT (RFC 9068): its signature is checked with the provider's keys, and its issuer, audience and times. People may ask everything
that their role sees.
"""

import logging
import threading
import time

import httpx
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from northstar.base.readers import Provider
from northstar.base.settings import Settings
from northstar.use.answers.reading import SCOPES
from northstar.use.api.access import REQUESTS_A_MINUTE, Caller
from northstar.use.people import Person, find_person, groups_of_claim

# signatures that only the provider can make; with others, whoever knows the client's secret could
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
SECONDS = 5.0
# the provider's keys are asked for again at most so often, whatever tokens come
AGAIN_SECONDS = 60.0
# between the provider's clock and ours
LEEWAY_SECONDS = 60
TOKEN_CHARACTERS = 16_000
LOG = logging.getLogger("northstar.api")


def caller_of(person: Person) -> Caller:
    """The caller that a person is: with the limits of a token, and all scopes."""
    return Caller(f"person {person.name}", frozenset(SCOPES), REQUESTS_A_MINUTE, person.role)


class Provided:
    """The access tokens of a provider. It is thread-safe."""

    def __init__(self, settings: Settings, provider: Provider):
        self.settings, self.provider = settings, provider
        self._lock = threading.Lock()
        self._keys: KeySet | None = None
        self._asked_at = float("-inf")

    def person_of_token(self, text: str) -> Person | None:
        """Who has this access token; None for a token that is not, or no longer, valid. Raises NoRole for somebody who may see nothing."""
        if self.provider.audience is None or text.count(".") != 2 or len(text) > TOKEN_CHARACTERS:
            return None
        try:
            claims = self._claims(text, self.provider.audience)
        except (JoseError, ValueError):
            return None
        if claims is None:
            return None
        groups = groups_of_claim(claims.get(self.provider.groups_claim))
        return find_person(self.settings.readers, str(claims.get(self.provider.name_claim) or claims["sub"]), groups)

    def _claims(self, text: str, audience: str) -> dict[str, object] | None:
        keys = self._find_keys()
        if keys is None:
            return None
        registry = JWSRegistry(algorithms=list(ALGORITHMS), strict_check_header=False)
        try:
            token = jwt.decode(text, keys, registry=registry)
        except InvalidKeyIdError:
            # the provider has changed its keys
            newer = self._find_keys(is_again=True)
            if newer is None:
                return None
            token = jwt.decode(text, newer, registry=registry)
        jwt.JWTClaimsRegistry(
            leeway=LEEWAY_SECONDS, iss={"essential": True, "values": [self.provider.issuer, f"{self.provider.issuer.rstrip('/')}/"]},
            aud={"essential": True, "value": audience}, exp={"essential": True}, sub={"essential": True},
        ).validate(token.claims)  # fmt: skip
        return dict(token.claims)

    def _find_keys(self, is_again: bool = False) -> KeySet | None:
        """The provider's keys; None while it does not answer."""
        with self._lock:
            if (self._keys is None or is_again) and time.monotonic() - self._asked_at > AGAIN_SECONDS:
                self._asked_at = time.monotonic()
                try:
                    self._keys = _read_keys(self.provider.issuer)
                except (httpx.HTTPError, ValueError, KeyError, TypeError, JoseError) as exc:
                    LOG.warning("the provider's keys cannot be read: %s", type(exc).__name__)
            return self._keys


def _read_keys(issuer: str) -> KeySet:
    with httpx.Client(timeout=SECONDS) as client:
        described = client.get(f"{issuer.rstrip('/')}/.well-known/openid-configuration").raise_for_status().json()
        return KeySet.import_key_set(client.get(described["jwks_uri"]).raise_for_status().json())
