"""`/customers` and `/customers/ID`: the table of customers, to search, sort and filter, and everything that the marts know of one."""

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TypedDict

from flask import Flask, Response, request
from flask.typing import ResponseReturnValue

from northstar.base.errors import NorthstarError
from northstar.base.formats import format_amount, format_count, format_value
from northstar.base.locales import write_month, write_number
from northstar.contract.codes import minor_digits
from northstar.use.customers import (
    CHOICES,
    LISTED,
    PAGE_ROWS,
    SORTABLE,
    Customer,
    Found,
    Movement,
    Search,
    choices,
    customer_path,
    find_customer,
    find_customers,
    read_search,
)
from northstar.use.marts import Marts
from northstar.use.pages.links import page_path
from northstar.use.pages.rendering import HTML, TEMPLATES
from northstar.use.why.background import certificate_of
from northstar.use.why.mart_rows import rows_path
from northstar.warehouse.rows import Row

TITLES = {
    "account_id": "Customer", "application": "Application", "mrr": "MRR", "plan_tier": "Plan", "country": "Country", "status": "Status",
    "first_paid_at": "First paid", "last_active_at": "Last activity", "open_tickets": "Open tickets", "failed_payments": "Failed payments",
    "health": "Health",
}  # fmt: skip
NUMBERS = ("mrr", "open_tickets", "failed_payments")
HEALTH = {"at_risk": "red", "watch": "yellow", "well": "green"}
KINDS = {"fx": "exchange rate"}
# the width and height of the drawing, in its own units
WIDTH, HEIGHT = 1000, 200
DAY = timedelta(days=1)


class Drawing(TypedDict):
    """A drawing of MRR over time. line: of an SVG path. marks: for each movement its place and words. top: the amount at its upper edge."""

    line: str
    marks: list[dict[str, object]]
    top: str
    first: date
    last: date
    words: str


def add_customers(server: Flask, marts: Callable[[], Marts], pages: Sequence[str]) -> None:
    """Let the server show customers. marts: gives what is read; pages: the titles of the other pages, for the links above."""

    def answer(show: Callable[[], str]) -> ResponseReturnValue:
        try:
            return Response(show(), 200, HTML)
        except NorthstarError as exc:
            page = TEMPLATES.get_template("customers_nothing.html")
            return Response(page.render(message=str(exc), **_frame(marts(), pages)), 404, HTML)

    def table() -> ResponseReturnValue:
        def show() -> str:
            search = read_search(dict(request.args.items()))
            return marts().steadily(lambda: show_table(marts(), search, find_customers(marts(), search), pages))

        return answer(show)

    def one(account_id: str) -> ResponseReturnValue:
        return answer(
            lambda: marts().steadily(lambda: show_customer(marts(), find_customer(marts(), account_id), pages))
        )

    server.add_url_rule("/customers", "customers", table)
    server.add_url_rule("/customers/<path:account_id>", "customer", one)


def _frame(marts: Marts, pages: Sequence[str]) -> dict[str, object]:
    """What stands around each of the pages: links to the others, and the version that is shown. version: an earlier one; None for the newest."""
    return {
        "pages": [(title, page_path(title)) for title in pages], "version": marts.past_version, "published": marts.published(),
        # the address without a version is that of now
        "now_path": "?",
    }  # fmt: skip


def show_table(marts: Marts, search: Search, found: Found, pages: Sequence[str]) -> str:
    """The table of customers, as HTML."""
    columns = [
        {
            "title": TITLES[name], "address": search.address(sort=name, order="up" if _is_down(search, name) else "down", page=""),
            "is_number": name in NUMBERS, "sorted": "" if name != search.sort else "descending" if search.is_descending else "ascending",
        }
        for name in SORTABLE
    ]  # fmt: skip
    first = (found.number - 1) * PAGE_ROWS
    return TEMPLATES.get_template("customers.html").render(
        **_frame(marts, pages), search=search, found=found, columns=columns, rows=[_row(marts, row) for row in found.rows],
        choices=[(TITLES[name], name, choices(marts)[name]) for name in CHOICES], certificate=certificate_of(marts), currency=marts.currency,
        shown=f"{format_count(first + 1)} to {format_count(first + len(found.rows))} of {format_count(found.count)} customers" if found.rows else "no customer fits",
        before=search.address(page=found.number - 1) if found.number > 1 else "",
        after=search.address(page=found.number + 1) if found.number < found.pages else "",
        all_path="/customers",
    )  # fmt: skip


def _is_down(search: Search, name: str) -> bool:
    """Whether another click on the column's name sorts upwards."""
    return search.is_descending if name == search.sort else not SORTABLE[name]


def _row(marts: Marts, row: Row) -> dict[str, object]:
    return {
        **{name: _text(row[name]) for name in SORTABLE}, "path": customer_path(row["account_id"]), "mrr": format_amount(row["mrr"], marts.currency),
        "status": row["status"], "health": (row["health"] or "").replace("_", " "), "signs": row["health_signs"] or "", "zone": HEALTH.get(row["health"] or "", ""),
    }  # fmt: skip


def show_customer(marts: Marts, customer: Customer, pages: Sequence[str]) -> str:
    """Everything of a customer, as HTML."""
    standing, currency = customer.standing, marts.currency
    shown = [_movement(movement, currency) for movement in reversed(customer.movements)]
    return TEMPLATES.get_template("customer.html").render(
        **_frame(marts, pages), standing=standing, account=standing["account_id"], certificate=certificate_of(marts), currency=currency,
        mrr=format_value(standing["mrr"], "money", currency), health=(standing["health"] or "").replace("_", " "), zone=HEALTH.get(standing["health"] or "", "unknown"),
        facts=_facts(standing), drawing=_draw(marts, customer.movements), movements=shown[:LISTED], movement_count=len(shown),
        transfers=customer.transfers, tables=_tables(marts, customer), cohorts=[_cohort(row) for row in customer.cohorts],
    )  # fmt: skip


def _facts(standing: Row) -> list[tuple[str, str]]:
    names = {
        "status": "Status", "application": "Application", "account_type": "Kind", "plan_tier": "Plan", "country": "Country", "acquisition_channel": "Came by",
        "created_at": "Registered", "first_paid_at": "First paid", "first_mrr_at": "First MRR", "last_active_at": "Last activity",
        "deleted_at": "Deleted",
    }  # fmt: skip
    return [(title, _text(standing[name])) for name, title in names.items() if standing[name] is not None]


def _movement(movement: Movement, currency: str) -> dict[str, str]:
    return {
        "day": _text(movement.moved_on), "application": movement.application, "kind": KINDS.get(movement.kind, movement.kind),
        "amount": f"{'+' if movement.amount > 0 else ''}{format_amount(movement.amount, currency)}", "after": format_amount(movement.after, currency), "reason": movement.reason,
    }  # fmt: skip


def _draw(marts: Marts, movements: list[Movement]) -> Drawing | None:
    """The MRR over time as a line of steps; None where there never was any."""
    if not movements:
        return None
    first, last = movements[0].moved_on, max(marts.as_of().date(), movements[-1].moved_on + DAY)
    top = max(movement.after for movement in movements) or Decimal(1)

    def across(day: date) -> float:
        return WIDTH * (day - first).days / max(1, (last - first).days)

    line = f"M0 {HEIGHT}"
    marks: list[dict[str, object]] = []
    for movement in movements:
        place, height = across(movement.moved_on), HEIGHT - float(movement.after / top) * (HEIGHT - 12)
        line += f" H{place:.1f} V{height:.1f}"
        if movement.kind != "fx":
            shown = _movement(movement, marts.currency)
            words = f"{shown['day']}: {shown['kind']} {shown['amount']}, {shown['reason']}"
            marks.append({"x": f"{place:.1f}", "kind": movement.kind, "words": words})
    return {
        "line": f"{line} H{WIDTH}", "marks": marks, "top": format_value(top, "money", marts.currency), "first": first, "last": last,
        "words": f"MRR from {first} to {last}: at most {format_value(top, 'money', marts.currency)}, {len(marks)} movements",
    }  # fmt: skip


def _tables(marts: Marts, customer: Customer) -> list[dict[str, object]]:
    """The lists of a customer: a title, names of columns, and cells, of those that have rows."""
    as_of, currency = marts.as_of(), marts.currency
    makers: dict[str, tuple[str, list[str], Callable[[Row], list[str]]]] = {
        "subscriptions": ("Subscriptions", ["From", "Until", "Item", "Plan", "Status", "Units", "MRR", "Why it ended"], lambda r: [
            _text(r["valid_from"]), _text(r["valid_to"]) or "now", r["subscription_item_id"], r["plan_id"] or "", r["status"], f"{r['quantity']:f}",
            _money(r["mrr_in_currency"], r["currency"]), r["cancel_reason"] or ""]),
        "payments": ("Payments", ["When", "Charge", "Status", "Attempt", "Amount", f"in {currency}", "Refunded", "Why it failed"], lambda r: [
            _text(r["created_at"]), r["charge_id"], _payment(r), str(r["attempt_number"]), _minor(r["amount_minor"], r["currency"]),
            "" if r["amount_reporting"] is None else format_amount(r["amount_reporting"], currency),
            _minor(r["refunded_minor"], r["currency"]) if r["refunded_minor"] else "", r["failure_code"] or ""]),
        "refunds": ("Refunds", ["When", "Refund", "Charge", "Status", "Amount", "Reason"], lambda r: [
            _text(r["created_at"]), r["refund_id"], r["charge_id"] or "", r["status"], _minor(r["amount_minor"], r["currency"]), r["reason"] or ""]),
        "tickets": ("Tickets", ["Created", "Ticket", "Priority", "About", "Status", "First response", "in hours of support", "Resolved after", "in hours of support", "Reopened"], lambda r: [
            _text(r["created_at"]), r["ticket_id"], r["priority"] or "", r["category"] or "", r["status"] or "",
            _span(r["first_response_minutes"]) or f"none for {_span(Decimal((as_of - r['created_at']).total_seconds()) / 60)}" * r["is_open"],
            _span(r["first_response_business_minutes"]),
            _span(r["resolution_hours"] and r["resolution_hours"] * 60) or f"open for {_span(Decimal((as_of - r['created_at']).total_seconds()) / 60)}" * r["is_open"],
            _span(r["resolution_business_hours"] and r["resolution_business_hours"] * 60), str(r["reopenings"] or "")]),
        "months": ("Usage", ["Month", "Application", "Sessions", "Minutes", "Events", "Tools used"], lambda r: [
            write_month(r["month"]), r["application"], format_count(r["sessions"]), write_number(f"{r['minutes'] or 0:.0f}"), format_count(r["events"]), format_count(r["tool_invocations"] or 0)]),
        "bookings": ("Bookings", ["Requested", "Booking", "Student", "Tutor", "Confirmed", "Completed", "Cancelled", "Price"], lambda r: [
            _text(r["requested_at"]), r["booking_id"], r["student_id"] or "", r["tutor_id"] or "", _text(r["confirmed_at"]), _text(r["completed_at"]),
            _text(r["cancelled_at"]), _minor(r["price_minor"], r["currency"])]),
    }  # fmt: skip
    return [
        {
            "title": title, "id": name, "names": names, "cells": [cells(row) for row in customer.lists[name]],
            "shown": f"the newest {len(customer.lists[name])} of {format_count(customer.counts[name])}" if customer.counts[name] > LISTED else "",
        }
        for name, (title, names, cells) in makers.items()
        if customer.lists[name]
    ]  # fmt: skip


def _cohort(row: Row) -> dict[str, str]:
    words = {"activity": "registered", "paying": "had their first MRR"}[row["cohort_kind"]]
    retained = (
        f"{format_value(row['retention_percent'], 'percent')} of them were {'active' if row['cohort_kind'] == 'activity' else 'paying'} in their month {row['months_since']}"
        if row["retention_percent"] is not None else "how many stayed is not known or withheld"
    )  # fmt: skip
    size = "" if row["cohort_size"] is None else f"{format_count(row['cohort_size'])} "
    return {
        "path": rows_path("cohort_retention", cohort_kind=row["cohort_kind"], application=row["application"], cohort_month=row["cohort_month"]),
        "words": f"{size}that {words} in {write_month(row['cohort_month'])}", "retained": retained,
    }  # fmt: skip


def _payment(row: Row) -> str:
    return f"{row['status']}, collected later" if row["status"] == "failed" and row["is_payment_collected"] else str(row["status"])  # fmt: skip


def _minor(amount: Decimal | None, currency: str | None) -> str:
    return "" if amount is None or not currency else _money(amount.scaleb(-minor_digits(currency)), currency)


def _money(amount: Decimal | None, currency: str | None) -> str:
    return format_value(amount, "money", currency or "")


def _span(minutes: Decimal | None) -> str:
    """A length of time in words; '' for none."""
    if minutes is None:
        return ""
    if minutes < 120:
        return f"{minutes:.0f} min"
    return (
        f"{write_number(f'{minutes / 60:.1f}')} h"
        if minutes < 2880
        else f"{write_number(f'{minutes / 1440:.1f}')} days"
    )


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return "" if value is None else str(value)
