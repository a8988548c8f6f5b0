"""Who reads: the people whom a proxy or a provider names, and the role of readers.yml that their groups give them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from northstar.base.errors import NorthstarError
from northstar.base.escaping import make_visible
from northstar.base.readers import EVERYTHING, Readers

# characters of a name that are kept
NAME_CHARACTERS = 100


class Headers(Protocol):
    """The headers of a request, which are found in any case."""

    def get(self, key: str, default: str, /) -> str: ...


class NoRole(NorthstarError):
    """Somebody who has signed on, and whose groups readers.yml does not name."""


@dataclass(frozen=True)
class Person:
    """Who reads. name: for the log; role: of readers.yml; None: who sees everything."""

    name: str
    role: str | None


# whoever has the password or the key of the pages
OF_PASSWORD = Person("password", None)


def find_person(readers: Readers, name: str, groups: Iterable[str]) -> Person:
    """The person of that name in these groups. Raises NoRole for somebody in no group that readers.yml names."""
    role = readers.role_of(list(groups))
    if role is None:
        raise NoRole(
            "you are signed on, and none of your groups may see these numbers; whoever keeps readers.yml can change that"
        )
    return Person(make_visible(name)[:NAME_CHARACTERS], None if role == EVERYTHING else role)


def person_of_proxy(readers: Readers, address: str, headers: Headers) -> Person | None:
    """Whom a request's proxy names; None where the request comes from elsewhere, or the proxy names nobody.

    Raises NoRole.
    """
    if readers.proxy is None or not readers.proxy.is_trusted(address):
        return None
    name = headers.get(readers.proxy.user_header, "").strip()
    if not name:
        return None
    groups = headers.get(readers.proxy.groups_header, "").split(",")
    return find_person(readers, name, [group.strip() for group in groups])


def groups_of_claim(claim: object) -> list[str]:
    """The groups in a claim, which is a list or a text with one."""
    if isinstance(claim, str):
        return [claim]
    return [group for group in claim if isinstance(group, str)] if isinstance(claim, list) else []
