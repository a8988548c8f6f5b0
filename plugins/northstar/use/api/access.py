"""Who may ask the API: tokens, and signed links for programs that cannot send headers.

A token is shown once, when it is made. The home keeps its hash; the token has 256 random bits, so a plain hash is enough. A link is the address of one
question, signed with a key of the home and listed there until it is revoked.
"""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlencode

import fasteners
from pydantic import BaseModel, ConfigDict, ValidationError

from northstar.base.errors import NorthstarError
from northstar.base.files import write_private
from northstar.base.settings import Settings
from northstar.use.answers.reading import SCOPES, Scope

KEY = "api_link_key"
FILE, LOCK = "api_access.json", "api_access.lock"
TOKEN_MARK = "northstar"
# what a signed address has beside its question
LINK, SIGNATURE = "link", "signature"
DAYS, MOST_DAYS = 90, 366
REQUESTS_A_MINUTE, MOST_REQUESTS_A_MINUTE = 120, 60_000
# the most of each kind: the file is read whole
MOST_KEPT = 1_000
NAME_LENGTH = 60
NO_DIGEST = hashlib.sha256(b"").hexdigest()


class Token(BaseModel):
    """A token as the home keeps it. digest: SHA-256 of its secret part. role: of readers.yml; None: who sees everything."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    name: str
    digest: str
    scopes: list[Scope]
    role: str | None = None
    per_minute: int
    created_at: datetime
    expires_at: datetime


class Link(BaseModel):
    """A signed link as the home keeps it. target: the path and query that it is for. role: whose answer it leads to."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str
    target: str
    scope: Scope
    role: str | None = None
    created_at: datetime
    expires_at: datetime


class Kept(BaseModel):
    """The file in the home."""

    model_config = ConfigDict(extra="forbid")
    tokens: list[Token] = []
    links: list[Link] = []


@dataclass(frozen=True)
class Caller:
    """Who asks, and what they may. id: of the token or the link, for the log; role: of readers.yml; None: who sees everything."""

    id: str
    scopes: frozenset[Scope]
    per_minute: int
    role: str | None = None


NOBODY = Caller("nobody", frozenset(), 0)


class Access:
    """The tokens and links of a home. What another process adds or revokes counts from the next request on."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime] = lambda: datetime.now(UTC)):
        self.settings, self.clock = settings, clock
        self.path = settings.home / FILE
        self._read: tuple[tuple[int, int, int] | None, Kept] = (None, Kept())

    def kept(self) -> Kept:
        """What is kept now. Raises NorthstarError for a file that is none of ours."""
        try:
            state = self.path.stat()
        except FileNotFoundError:
            return Kept()
        mark = (state.st_ino, state.st_mtime_ns, state.st_size)
        if self._read[0] != mark:
            try:
                self._read = mark, Kept.model_validate_json(self.path.read_bytes())
            except ValidationError as exc:
                raise NorthstarError(
                    f"{self.path} is damaged: remove it, and make tokens and links anew (`northstar api token add`)"
                ) from exc
        return self._read[1]

    def caller_of_token(self, text: str) -> Caller | None:
        """Who has this token; None for one that is not, or no longer, valid. Unknown ids take as long as known ones."""
        mark, _, rest = text.partition("_")
        identity, _, secret = rest.partition("_")
        found = next((token for token in self.kept().tokens if token.id == identity), None)
        digest = hashlib.sha256(secret.encode(errors="replace")).hexdigest()
        is_right = hmac.compare_digest(digest, found.digest if found else NO_DIGEST)
        if not is_right or found is None or mark != TOKEN_MARK or found.expires_at <= self.clock():
            return None
        return Caller(f"token {found.id}", frozenset(found.scopes), found.per_minute, found.role)

    def caller_of_link(self, path: str, parameters: Sequence[tuple[str, str]]) -> Caller | None:
        """Who asks by a signed address; None for one that was changed, has expired or was revoked. parameters: all of the address, in its order."""
        named = dict(parameters)
        identity, signature = named.get(LINK, ""), named.get(SIGNATURE, "")
        question = [(name, value) for name, value in parameters if name not in (LINK, SIGNATURE)]
        # a home that has signed no link yet has no key, and none is made for whoever comes by
        key = self.settings.known_secret(KEY)
        if key is None:
            return None
        expected = _sign(key, identity, path, question)
        is_right = hmac.compare_digest(signature.encode(errors="replace"), expected.encode())
        found = next((link for link in self.kept().links if link.id == identity), None)
        if not is_right or found is None or found.expires_at <= self.clock():
            return None
        return Caller(f"link {found.id}", frozenset([found.scope]), REQUESTS_A_MINUTE, found.role)

    def add_token(
        self,
        name: str,
        scopes: Sequence[Scope],
        days: int = DAYS,
        per_minute: int = REQUESTS_A_MINUTE,
        role: str | None = None,
    ) -> str:
        """Make a token and return it: the home keeps only its hash. role: of readers.yml. Raises NorthstarError for values that it may not have."""
        self._require_role(role)
        _require(
            0 < len(name) <= NAME_LENGTH and name.isprintable(), f"a token's name has 1 to {NAME_LENGTH} characters"
        )
        _require(bool(scopes) and set(scopes) <= set(SCOPES), f"give scopes among {', '.join(SCOPES)}")
        _require(1 <= days <= MOST_DAYS, f"--days: give 1 to {MOST_DAYS}")
        _require(1 <= per_minute <= MOST_REQUESTS_A_MINUTE, f"--per-minute: give 1 to {MOST_REQUESTS_A_MINUTE:,}")
        identity, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        with self._changing() as kept:
            _require(all(token.name != name for token in kept.tokens), f"there is a token called {name!r}; revoke it first, or choose another name")  # fmt: skip
            _require(len(kept.tokens) < MOST_KEPT, f"a home has at most {MOST_KEPT:,} tokens; revoke some")
            digest, now = hashlib.sha256(secret.encode()).hexdigest(), self.clock()
            kept.tokens.append(
                Token(
                    id=identity, name=name, digest=digest, scopes=sorted(set(scopes)), role=role, per_minute=per_minute, created_at=now,
                    expires_at=now + timedelta(days=days),
                )
            )  # fmt: skip
        return f"{TOKEN_MARK}_{identity}_{secret}"

    def add_link(
        self,
        path: str,
        question: Sequence[tuple[str, str]],
        scope: Scope,
        days: int = DAYS,
        role: str | None = None,
    ) -> str:
        """Sign a question, with its path as it is and not as addresses escape it; returns the path and query of the link.

        Raises NorthstarError for one that cannot be signed.
        """
        _require(1 <= days <= MOST_DAYS, f"--days: give 1 to {MOST_DAYS}")
        self._require_role(role)
        names = [name for name, _ in question]
        _require(not {LINK, SIGNATURE} & set(names), "this address is signed already")
        _require(len(names) == len(set(names)), "name each parameter once")
        identity = secrets.token_hex(4)
        with self._changing() as kept:
            _require(len(kept.links) < MOST_KEPT, f"a home has at most {MOST_KEPT:,} links; revoke some")
            now = self.clock()
            kept.links.append(
                Link(
                    id=identity,
                    target=f"{path}?{urlencode(question)}",
                    scope=scope,
                    role=role,
                    created_at=now,
                    expires_at=now + timedelta(days=days),
                )
            )
        key = self.settings.secret(KEY)
        return f"{quote(path)}?{urlencode([*question, (LINK, identity), (SIGNATURE, _sign(key, identity, path, question))])}"

    def revoke_token(self, name: str) -> None:
        """Revoke a token by its name or id. Raises NorthstarError where there is none."""
        with self._changing() as kept:
            others = [token for token in kept.tokens if name not in (token.name, token.id)]
            _require(
                len(others) < len(kept.tokens), f"there is no token {name!r}; `northstar api token list` lists them"
            )
            kept.tokens[:] = others

    def revoke_link(self, identity: str) -> None:
        """Revoke a link by its id. Raises NorthstarError where there is none."""
        with self._changing() as kept:
            others = [link for link in kept.links if link.id != identity]
            _require(
                len(others) < len(kept.links), f"there is no link {identity!r}; `northstar api link list` lists them"
            )
            kept.links[:] = others

    def _require_role(self, role: str | None) -> None:
        roles = self.settings.readers.roles
        _require(
            role is None or role in roles,
            f"there is no role {(role or '')[:40]!r} in readers.yml; there are {', '.join(roles) or 'none'}",
        )

    @contextmanager
    def _changing(self) -> Iterator[Kept]:
        with fasteners.InterProcessLock(Path(self.settings.home) / LOCK):
            kept = self.kept().model_copy(deep=True)
            yield kept
            write_private(self.path, kept.model_dump_json(indent=1))


def _sign(key: str, identity: str, path: str, question: Sequence[tuple[str, str]]) -> str:
    # lengths keep two questions apart whose texts joined would be the same
    parts = [identity, path, *(text for pair in sorted(question) for text in pair)]
    message = "".join(f"{len(part)}:{part}" for part in parts).encode(errors="replace")
    return urlsafe_b64encode(hmac.new(key.encode(), message, hashlib.sha256).digest()).decode().rstrip("=")


def _require(is_met: bool, message: str) -> None:
    if not is_met:
        raise NorthstarError(message)
