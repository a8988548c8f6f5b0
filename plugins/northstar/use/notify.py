"""Notifications: mail, Slack, and webhooks in PagerDuty's event format, on the routes of the home's `notify.yml`.

mail: {connection: smtp_main, from: northstar@example.org}   # an Airflow connection of type smtp
pages: https://northstar.example.org      # the address to which links point (default: the home's own pages)
runbooks: https://git.example.org/northstar/docs/runbooks.md   # to which alerts of the job itself link (default: the file in the checkout)
routes:
  everyone: [{mail: [team@example.org]}, {slack: slack_team}]    # slack: a connection whose password is the incoming webhook's address
  page on-call: [{webhook: pagerduty}]    # webhook: a connection; its password is the routing key; give a host only if it is not PagerDuty's
  default: [{mail: [data@example.org]}]   # alerts without a route of their own
reports: {daily: everyone, weekly: everyone}     # the route of each report; a report without a route is only made and kept
subscribers: [example.org]                # readers may subscribe mail addresses of these domains to views, besides the addresses of the routes
remind_hours: 24                          # after which an open alert is sent again, unless somebody has acknowledged it
maintenance:                              # no messages about these applications in this time
  - {from: 2026-04-01T22:00:00Z, until: 2026-04-02T02:00:00Z, applications: [web]}
"""

import re
import smtplib
import ssl
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Self

import httpx
from pydantic import Field, ValidationInfo, field_validator, model_validator

from northstar.base.config_files import Section, read_config_file
from northstar.base.errors import NorthstarError
from northstar.base.escaping import make_visible, slack_text
from northstar.base.settings import Settings
from northstar.connections.find import find_connection

KINDS = ("mail", "slack", "webhook")
PAGERDUTY = "https://events.pagerduty.com/v2/enqueue"
ATTEMPTS, TIMEOUT_SECONDS = 3, 15
LONGEST_ADDRESS = 254


# a webhook's body, as the service that it goes to wants it
Body = dict[str, object]


@dataclass
class Message:
    """A message to send. events: the bodies of webhooks without their key, in PagerDuty's format. images: png by content id.

    attachments: {file name: (type, content)} and headers are for mails.
    """

    subject: str
    text: str
    html: str | None = None
    images: dict[str, bytes] = field(default_factory=dict, repr=False)
    events: list[Body] = field(default_factory=list)
    attachments: dict[str, tuple[str, bytes]] = field(default_factory=dict, repr=False)
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Address:
    """An address that gets its own message: a person's mail, a Slack channel, a webhook. recipients: all addresses that the mail is addressed to."""

    kind: str
    target: str
    recipients: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.target}"


class MailServer(Section):
    """`mail:` of notify.yml."""

    connection: str = Field(description="name an Airflow connection of type smtp")
    sender: str = Field(alias="from", description="give the address that mails come from")


class Entry(Section):
    """An entry of a route: exactly one kind of address."""

    mail: list[str] | None = None
    slack: str | None = None
    webhook: str | None = None

    @field_validator("mail", mode="before")
    @classmethod
    def _to_list(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _require_one_kind(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"each address is one of {', '.join(KINDS)}, such as {{mail: [team@example.org]}}")
        return self


class Window(Section):
    """A time in which nothing is sent about some applications, or about all of them."""

    begins: datetime = Field(alias="from", description="give a time, such as 2026-04-01T22:00:00Z")
    ends: datetime = Field(alias="until", description="give a time, such as 2026-04-02T02:00:00Z")
    applications: list[str] | None = Field(None, description="give a list of applications")

    @field_validator("begins", "ends")
    @classmethod
    def _in_utc(cls, moment: datetime) -> datetime:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


class Channels(Section):
    """The home's notify.yml; empty where there is none."""

    mail: MailServer | None = Field(None, description="say {connection: ..., from: ...}")
    pages: str | None = None
    runbooks: str | None = None
    routes: dict[str, list[Entry]] = Field({}, description="give a list of addresses by the route's name")
    reports: dict[str, str] = Field({}, description="give a route by the report's name")
    subscribers: list[str] = Field([], description="give a list of domains, such as [example.org]")
    remind_hours: float = Field(24, gt=0, description="give hours, more than 0")
    maintenance: list[Window] = Field([], description="give a list of windows with from and until")

    @field_validator("routes", "reports", "maintenance", mode="before")
    @classmethod
    def _null_is_empty(cls, value: object, info: ValidationInfo) -> object:
        return ([] if info.field_name == "maintenance" else {}) if value is None else value

    @model_validator(mode="after")
    def _check_routes(self) -> Self:
        if self.mail is None and any(entry.mail for route in self.routes.values() for entry in route):
            raise ValueError("a route sends mail; add mail: {connection: ..., from: ...}")
        for report, route in self.reports.items():
            if route not in self.routes:
                raise ValueError(f"the report {report} goes to {route!r}, and there is no such route")
        return self

    def addresses(self, name: str | None) -> list[Address]:
        """The addresses of a route, else those of `default`, else none; each recipient of a mail on its own."""
        all_addresses = []
        for entry in self.routes.get(name or "default") or self.routes.get("default") or []:
            (kind,) = entry.model_fields_set
            everybody = tuple(entry.mail or [getattr(entry, kind)])
            all_addresses += [Address(kind, one, everybody) for one in everybody]
        return list(dict.fromkeys(all_addresses))

    def may_subscribe(self, kind: str, target: str) -> bool:
        """Whether a reader may have views sent there: an address of a route, or a mail address of a domain of `subscribers`."""
        if any((a.kind, a.target) == (kind, target) for name in self.routes for a in self.addresses(name)):
            return True
        name, at, domain = target.rpartition("@")
        is_address = bool(name and at) and not re.search(r"[\s,;<>\"@]", name) and len(target) <= LONGEST_ADDRESS
        return (
            kind == "mail"
            and self.mail is not None
            and is_address
            and domain.lower() in map(str.lower, self.subscribers)
        )

    def entry(self, kind: str, target: str) -> Entry:
        """An entry of a route for one address."""
        return Entry.model_validate({kind: target})

    def is_quiet(self, application: str, now: datetime) -> bool:
        """Whether the application is being worked on, so that nothing is sent about it."""
        return any(
            window.begins <= now < window.ends and (window.applications is None or application in window.applications)
            for window in self.maintenance
        )


def read_channels(settings: Settings) -> Channels:
    """The home's notify.yml. Raises ConfigError naming the file and what is wrong."""
    return read_config_file(settings.config / "notify.yml", Channels)


def send_message(settings: Settings, channels: Channels, address: Address, message: Message) -> str | None:
    """Send a message to one address; returns where it went, None for a webhook without an event. Raises NorthstarError when it failed."""
    try:
        return {"mail": _mail, "slack": _slack, "webhook": _webhook}[address.kind](settings, channels, address, message)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        # without the error's text, which contains the address: Slack's address is its secret
        raise NorthstarError(type(exc).__name__) from exc
    except (OSError, smtplib.SMTPException) as exc:
        raise NorthstarError(exc) from exc


def _mail(settings: Settings, channels: Channels, address: Address, message: Message) -> str:
    if channels.mail is None:
        # Channels refuses this already: a route that sends mail needs `mail`
        raise NorthstarError("notify.yml has no `mail`")
    connection = find_connection(settings, channels.mail.connection)
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = (
        " ".join(make_visible(message.subject).split()),
        channels.mail.sender,
        ", ".join(address.recipients),
    )
    for name, value in message.headers.items():
        mail[name] = value
    mail["Date"], mail["Message-ID"] = formatdate(), make_msgid(domain="northstar")
    mail.set_content(make_visible(message.text))
    if message.html:
        mail.add_alternative(message.html, subtype="html")
        _, page = mail.iter_parts()
        for name, image in message.images.items():
            page.add_related(image, "image", "png", cid=f"<{name}>")
    for name, (kind, content) in message.attachments.items():
        maintype, _, subtype = kind.partition("/")
        mail.add_attachment(content, maintype=maintype, subtype=subtype, filename=name)
    with smtplib.SMTP(connection.host or "localhost", connection.port or 25, timeout=TIMEOUT_SECONDS) as server:
        server.ehlo()
        if server.has_extn("starttls"):
            server.starttls(context=ssl.create_default_context())
        elif connection.password and not connection.extra.get("disable_tls"):
            raise NorthstarError(
                f'the mail server of {connection.name} offers no TLS, and the password would be sent unencrypted; extra {{"disable_tls": true}} allows it'
            )
        if connection.login:
            server.login(connection.login, connection.password or "")
        server.send_message(mail, to_addrs=[address.target])
    return str(address)


def _slack(settings: Settings, channels: Channels, address: Address, message: Message) -> str:
    _post(
        find_connection(settings, address.target).secret(),
        {"text": slack_text(f"*{message.subject}*\n{message.text}")[:39_000]},
    )
    return str(address)


def _webhook(settings: Settings, channels: Channels, address: Address, message: Message) -> str | None:
    if not message.events:
        return None
    connection = find_connection(settings, address.target)
    place = connection.url() + "/v2/enqueue" if connection.host else PAGERDUTY
    for event in message.events:
        _post(place, {"routing_key": connection.secret(), **event})
    return str(address)


def _post(address: str, body: Body) -> None:
    problem: Exception
    for attempt in range(1, ATTEMPTS + 1):
        try:
            # only the status is read, not the body, which may be long
            with httpx.stream("POST", address, json=body, timeout=TIMEOUT_SECONDS) as response:
                status = response.status_code
            if status < 400:
                return
            if status < 500 and status != 429:
                raise NorthstarError(f"it answered {status}")
            problem = NorthstarError(f"it answered {status}, {attempt} times")
        except httpx.TransportError as exc:
            problem = exc
        if attempt < ATTEMPTS:
            time.sleep(2 ** (attempt - 1))
    raise problem
