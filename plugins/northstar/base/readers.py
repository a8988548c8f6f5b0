"""`readers.yml`: roles that see a part of the company's numbers only, and how people sign on to one of them or to all."""

import ipaddress
import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from northstar.base.config_files import Misplaced, Section

# who belongs to it sees everything; it is no role of the warehouse
EVERYTHING = "everything"
NAME = r"[a-z][a-z0-9_]{0,14}[a-z0-9]"
# the most roles: each has connections of its own
MOST_ROLES = 20
NAME_ADVICE = "a role's name has 2 to 16 lower-case letters, digits and underscores, and begins with a letter"
Text = Annotated[str, Field(strict=True, min_length=1, max_length=200)]


class ReaderRole(Section):
    """What a role sees: the values and rows of some applications, or of some values of one segment, or of both.

    A total over what a role does not see is not shown to it: neither the application 'all', unless its applications are 'all', nor, where it has
    a segment, any value that is not by that segment.
    """

    applications: Literal["all"] | Annotated[list[Text], Field(min_length=1, max_length=200)] = Field(
        description="give the applications that it sees, such as [web, mobile], or all"
    )
    segment: Text | None = Field(
        None, description="give one segment, such as country: what is split by two is in no value"
    )
    values: list[Text] = Field([], max_length=500, description="give the segment's values that it sees, such as [DE]")

    @model_validator(mode="after")
    def _sees_a_part(self) -> "ReaderRole":
        if (self.segment is None) != (not self.values):
            raise ValueError("give `segment` and its `values` together, or neither")
        if self.applications == "all" and self.segment is None:
            raise ValueError(f"this role would see everything: leave it out, and name {EVERYTHING!r} in `groups`")
        if self.applications != "all" and "all" in self.applications:
            raise ValueError("'all' is no application: write `applications: all`")
        return self


class Proxy(Section):
    """A proxy that signs people on and says in headers who they are. Only requests from its addresses are believed."""

    addresses: Annotated[list[Text], Field(min_length=1)] = Field(
        description="give the addresses or networks of the proxy, such as [10.0.0.7, 10.1.0.0/24]"
    )
    user_header: Text = Field("X-Forwarded-User", description="give the header with the person's name")
    groups_header: Text = Field(
        "X-Forwarded-Groups", description="give the header with the person's groups, separated by commas"
    )

    @field_validator("addresses")
    @classmethod
    def _networks(cls, given: list[str]) -> list[str]:
        for number, text in enumerate(given):
            try:
                network = ipaddress.ip_network(text)
            except ValueError as exc:
                raise Misplaced(f"{text[:60]!r} is no address and no network", number) from exc
            if network.prefixlen == 0:
                raise Misplaced("this network is the whole world: anybody could say who they are", number)
        return given

    def is_trusted(self, address: str) -> bool:
        """Whether a request from an address comes from the proxy."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
            found = found.ipv4_mapped
        return any(found in ipaddress.ip_network(network) for network in self.addresses)


class Provider(Section):
    """An OpenID Connect provider. The client's secret is the home's secret `oidc_client_secret`."""

    issuer: Text = Field(description="give the issuer's address, such as https://login.example.com/realms/company")
    client_id: Text = Field(description="give the id under which the provider knows Northstar")
    pages: Text = Field(
        description="give the address under which people open the pages, such as https://metrics.example.com"
    )
    groups_claim: Text = Field("groups", description="give the claim with the person's groups")
    name_claim: Text = Field("email", description="give the claim by which the log names a person")
    scopes: list[Text] = Field(["openid", "email"], description="give the scopes to ask for, openid among them")
    hours: Annotated[int, Field(strict=True, ge=1, le=720)] = Field(
        12, description="give after how many hours a person signs on again, 1 to 720"
    )
    audience: Text | None = Field(
        None,
        description="give the audience of the access tokens (JWT) that the API and MCP accept; none: they take none",
    )

    @field_validator("issuer", "pages")
    @classmethod
    def _is_safe(cls, given: str) -> str:
        parts = urlsplit(given)
        if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise ValueError("give an https:// address: over http anybody on the way could sign on as anybody")
        if not parts.hostname or parts.query or parts.fragment or parts.username:
            raise ValueError("give an address without a query, a fragment or a user")
        return given.rstrip("/") if not parts.path.strip("/") else given

    @field_validator("scopes")
    @classmethod
    def _has_openid(cls, given: list[str]) -> list[str]:
        if "openid" not in given:
            raise ValueError("the scopes need openid")
        return given


class Readers(Section):
    """Who sees what. roles: {name: what it sees}; groups: {group of a proxy or provider: role, or 'everything'}."""

    roles: dict[str, ReaderRole] = Field({}, description=f"give roles by name: {NAME_ADVICE}")
    groups: dict[str, str] = Field({}, description=f"give a role, or {EVERYTHING}, by group")
    proxy: Proxy | None = None
    oidc: Provider | None = None

    @field_validator("roles")
    @classmethod
    def _names(cls, given: dict[str, ReaderRole]) -> dict[str, ReaderRole]:
        for name in given:
            if not re.fullmatch(NAME, name) or name == EVERYTHING:
                raise Misplaced(NAME_ADVICE if name != EVERYTHING else f"{EVERYTHING!r} is what no role is", name)
        if len(given) > MOST_ROLES:
            raise ValueError(f"a home has at most {MOST_ROLES} roles")
        return given

    @model_validator(mode="after")
    def _groups_have_roles(self) -> "Readers":
        for group, role in self.groups.items():
            if role != EVERYTHING and role not in self.roles:
                raise Misplaced(
                    f"there is no role {role[:40]!r}; there are {', '.join([*self.roles, EVERYTHING])}", "groups", group
                )
        return self

    def role_of(self, groups: list[str]) -> str | None:
        """The role of somebody in these groups, EVERYTHING for one who sees all; None for somebody in no group that is named.

        In several, the first one of `groups` in the file counts: what two roles see together is no role.
        """
        return next((role for group, role in self.groups.items() if group in groups), None)
