"""The ledgers of one company, and the reckoning of its metrics from them."""

import json
import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import pandas as pd

from northstar.base.settings import ROOT
from northstar.contract import entities

EXPONENTS = {"JPY": 0, "KWD": 3}
DAY, WEEK_SEVEN, MONTH_THIRTY = timedelta(days=1), timedelta(days=7), timedelta(days=30)
ACTIVATING = {"feature.used", "tool.invoked", "booking.requested"}
# of the default rules; how many days a cohort is given before its period is complete
GROSS_MARGIN = Fraction(8, 10)
WINDOWS = {
    "signup_to_paid_conversion_rate": 30, "activation_rate": 7, "retention_d1": 1, "retention_d7": 7, "retention_d30": 30,
    "retention_d90": 90, "student_retention_30d": 30, "tutor_retention_30d": 30, "creator_onboarding_success_rate": 7,
    "creator_onboarding_step_rate": 7, "code_review_within_24h_rate": 1,
}  # fmt: skip
LEFT_OUT_TICKETS = {"spam", "deleted", "merged"}


class Books:
    """The ledgers of one company up to `as_of`; `lines()` has every metric that it reckons, by month.

    tables: entity -> DataFrame in contract shape, without flawed rows. as_of: the books' closing time, exclusive, UTC.
    home_country and margin as in the warehouse's default rules.
    """

    def __init__(self, tables: dict, as_of: datetime, home_country: str = "US"):
        self.as_of, self.home_country = as_of, home_country
        self.rows = {name: self._known(name, tables.get(name)) for name in entities()}
        self.accounts = {a["account_id"]: a for a in self.rows["accounts"]}
        # whole numbers stay ints until the books are closed: most entries are ones
        self.sums: dict = defaultdict(lambda: [0, 0])
        self.sets: dict = defaultdict(set)
        self.lists: dict = defaultdict(list)
        self.found: dict = {}
        self.months = self._months()

    def lines(self) -> pd.DataFrame:
        """metric_id, period_start, application, segment, segment_value, numerator, denominator (Fraction or None)."""
        for reckon in (
            self._revenue, self._cash, self._registrations, self._activity, self._sessions, self._conversations, self._support,
            self._surveys, self._marketplace, self._creators, self._signals, self._engineering, self._others,
        ):  # fmt: skip
            reckon()
        self._close()
        self._growth()
        self._unit_economics()
        self._targets()
        rows = [(*key, *value) for key, value in sorted(self.found.items())]
        return pd.DataFrame(
            rows,
            columns=[
                "metric_id",
                "period_start",
                "application",
                "segment",
                "segment_value",
                "numerator",
                "denominator",
            ],
        )

    # what a row knows at the books' closing time

    def _known(self, name: str, table: pd.DataFrame | None) -> list[dict]:
        if table is None or table.empty:
            return []
        entity, rows = entities()[name], []
        own_time, later_times = entity.own_time, entity.later_times
        names, columns = list(table.columns), [_cells(table[c]) for c in table.columns]
        for cells in zip(*columns, strict=True):
            row = dict(zip(names, cells, strict=True))
            own = row[own_time]
            if isinstance(own, date) and not isinstance(own, datetime):
                own = _midnight(own)
            if own >= self.as_of or row.get("consent") is False:
                continue
            for later in later_times:
                if row.get(later) is not None and row[later] >= self.as_of:
                    row[later], row[f"{later}_is_to_come"] = None, True
            row.setdefault("application", "default")
            rows.append(defaultdict(_nothing, row))
        return rows

    def _months(self) -> list[tuple[datetime, datetime]]:
        first, months = (
            min(_first_time(name, rows) for name, rows in self.rows.items() if rows and name != "fx_rates"),
            [],
        )
        start = datetime(first.year, first.month, 1, tzinfo=UTC)
        while start < self.as_of:
            end = _next_month(start)
            months.append((start, end))
            start = end
        return months

    # ledgers: sums and shares, distinct members, measurements

    def _scopes(self, when, application, segments):
        month = _month(when)
        for name in (application, "all"):
            yield month, name, "", ""
            for segment, value in (segments or {}).items():
                yield month, name, segment, "(unknown)" if value is None else str(value)

    def add(self, metric, when, application, numerator, denominator=None, segments=None):
        """Add to a metric's month; denominator None: the metric has none."""
        if isinstance(numerator, float):
            numerator = Fraction(numerator)
        for scope in self._scopes(when, application, segments):
            line = self.sums[metric, *scope]
            line[0] += numerator
            line[1] = None if denominator is None else line[1] + denominator

    def member(self, ledger, when, application, who, segments=None):
        for scope in self._scopes(when, application, segments):
            self.sets[ledger, *scope].add(who)

    def measure(self, metric, when, application, value, segments=None):
        for scope in self._scopes(when, application, segments):
            self.lists[metric, *scope].append(value)

    def _close(self):
        self.found |= self.sums
        self.found = {
            key: tuple(None if v is None else Fraction(v) for v in value) for key, value in self.found.items()
        }

    def count(self, ledger, scope) -> int:
        return len(self.sets.get((ledger, *scope), ()))

    # money

    def _rate(self, currency: str, on: date) -> Fraction:
        if currency == "USD":
            return Fraction(1)
        days, rates = self._rates()[currency]
        return rates[bisect_right(days, on) - 1]

    def _rates(self) -> dict:
        if not hasattr(self, "_rate_book"):
            found = defaultdict(list)
            for row in self.rows["fx_rates"]:
                found[row["currency"]].append((row["rate_date"], Fraction(str(row["rate_to_reporting"]))))
            self._rate_book = {c: tuple(map(list, zip(*sorted(r), strict=True))) for c, r in found.items()}
        return self._rate_book

    def _money(self, amount, currency: str, on: date) -> Fraction:
        return Fraction(str(amount)) / 10 ** EXPONENTS.get(currency, 2) * self._rate(currency, on)

    def _revenue(self):
        holdings = defaultdict(list)
        for row in self.rows["subscriptions"]:
            amount, begins = _monthly(row), row["valid_from"].date()
            ends = row["valid_to"].date() if row["valid_to"] else None
            if (
                row["status"] in ("active", "past_due")
                and not row["is_metered"]
                and amount > 0
                and (ends is None or ends > begins)
            ):
                holdings[row["application"], row["account_id"]].append((begins, ends, amount, row))
        self.first_mrr = {}
        for (_, account), rows in holdings.items():
            first = min(r["valid_from"] for *_, r in rows)
            self.first_mrr[account] = min(first, self.first_mrr.get(account, first))
        for (application, account), rows in holdings.items():
            self._movements(application, account, rows)
            self._month_ends(application, account, rows)
        for key in [k for k in self.sums if k[0] == "mrr"]:
            mrr, paying = self.sums[key][0], self.sums["paying_accounts", *key[1:]][0]
            if key[3] != "account_type":
                self.found["arr", *key[1:]] = (12 * mrr, None)
                if paying:
                    self.found["arpu", *key[1:]] = (mrr, paying)
        for scope in {k[1:] for k in self.sums if k[0].endswith("_mrr") and k[0] != "arr"}:
            parts = {
                m: self.sums.get((f"{m}_mrr", *scope), [Fraction(0)])[0]
                for m in ("new", "expansion", "contraction", "churned", "reactivation")
            }
            self.found["net_new_mrr", *scope] = (sum(parts.values()), None)
            if scope[2] == "" and parts["contraction"] + parts["churned"]:
                gained = parts["new"] + parts["expansion"] + parts["reactivation"]
                self.found["quick_ratio", *scope] = (gained, -(parts["contraction"] + parts["churned"]))
        for key in [k for k in self.sets if k[0] == "markets" and k[3] == ""]:
            self.found["active_markets", *key[1:]] = (Fraction(len(self.sets[key])), None)

    def _held(self, rows, day):
        return [(amount, row) for begins, ends, amount, row in rows if begins <= day and (ends is None or ends > day)]

    def _worth(self, held, on):
        return sum((amount * self._rate(row["currency"], on) for amount, row in held), Fraction(0))

    def _tier(self, held, on):
        if not held:
            return None
        best = min(held, key=lambda h: (-h[0] * self._rate(h[1]["currency"], on), h[1]["plan_id"]))
        return best[1]["plan_tier"]

    def _movements(self, application, account, rows):
        last = (self.as_of - timedelta(microseconds=1)).date()
        days = {b for b, *_ in rows} | {e for _, e, *_ in rows if e} | self._rate_days(rows, last)
        country, had_any = self.accounts.get(account, {}).get("country"), False
        for day in sorted(d for d in days if d <= last):
            before, after = self._held(rows, day - DAY), self._held(rows, day)
            opening, closing = self._worth(before, day), self._worth(after, day)
            amount = closing - opening
            if not opening and not closing:
                continue
            kind = (
                ("reactivation" if had_any else "new")
                if not opening
                else "churned"
                if not closing
                else "expansion"
                if amount > 0
                else "contraction"
            )
            tier = self._tier(before, day - DAY) if kind == "churned" else self._tier(after, day)
            had_any = True
            if kind == "new":
                self.add("new_accounts", _midnight(day), application, 1)
            if amount:
                self.add(
                    f"{kind}_mrr", _midnight(day), application, amount, None, {"plan_tier": tier, "country": country}
                )

    def _rate_days(self, rows, last) -> set:
        days = set()
        for begins, ends, _, row in rows:
            for on in self._rates().get(row["currency"], ([], []))[0]:
                if begins < on <= last and (ends is None or on < ends):
                    days.add(on)
        return days

    def _month_ends(self, application, account, rows):
        holder = self.accounts.get(account, defaultdict(lambda: None))
        country, kind = holder["country"], holder["account_type"]
        for start, end in self.months:
            closing_day = (min(end, self.as_of) - timedelta(microseconds=1)).date()
            opening_day = start.date() - DAY
            before, after = self._held(rows, opening_day), self._held(rows, closing_day)
            opening, closing = self._worth(before, opening_day), self._worth(after, closing_day)
            if closing:
                tier = {"plan_tier": self._tier(after, closing_day), "country": country, "account_type": kind}
                self.add("mrr", start, application, closing, None, tier)
                listed = sum((_listed(row) * self._rate(row["currency"], closing_day) for _, row in after), Fraction(0))
                self.add("price_realisation", start, application, closing, listed, {"plan_tier": tier["plan_tier"]})
                if kind == "creator":
                    self.add("revenue_per_creator", start, application, closing, 1, {"plan_tier": tier["plan_tier"]})
                self.add("paying_accounts", start, application, 1, None, tier)
                self.add("international_revenue_share", start, application, closing if country and country != self.home_country else 0,
                         closing if country else 0)  # fmt: skip
                if country:
                    self.member("markets", start, application, country)
            if opening:
                tier = {"plan_tier": self._tier(before, opening_day), "country": country}
                self.add("customer_churn_rate", start, application, int(not closing), 1, tier | {"account_type": kind})
                self.add("net_revenue_retention", start, application, closing, opening, tier)
                self.add("gross_revenue_retention", start, application, min(closing, opening), opening, tier)

    def _cash(self):
        charges = {c["charge_id"]: c for c in self.rows["charges"]}
        payments = defaultdict(list)
        for charge in self.rows["charges"]:
            payments[charge["payment_id"] or charge["charge_id"]].append(charge)
            when, application, country = charge["created_at"], charge["application"], {"country": charge["country"]}
            amount = self._money(charge["amount"], charge["currency"], when.date())
            paid, failed = charge["status"] == "succeeded", charge["status"] == "failed"
            if paid:
                self.add("cash_collected", when, application, amount, None, country)
                self.add("refund_rate", when, application, 0, amount, country)
            if paid or failed:
                self.add("payment_success_rate", when, application, int(paid), 1, country)
                self.add("payment_failure_rate", when, application, int(failed), 1, country)
                if failed:
                    self.member(
                        "failures", when, application, charge["charge_id"], {"failure_code": charge["failure_code"]}
                    )
        for refund in self.rows["refunds"]:
            if refund["status"] == "succeeded":
                charge = charges.get(refund["charge_id"], defaultdict(lambda: None))
                amount = self._money(refund["amount"], refund["currency"], refund["created_at"].date())
                application, country = charge["application"] or refund["application"], {"country": charge["country"]}
                self.add("cash_collected", refund["created_at"], application, -amount, None, country)
                self.add("refund_rate", refund["created_at"], application, amount, 0, country)
        for key in [k for k in self.sets if k[0] == "failures" and k[3] == "failure_code"]:
            attempts = self.sums["payment_failure_rate", *key[1:3], "", ""][1]
            self.found["payment_failure_rate", *key[1:]] = (Fraction(len(self.sets[key])), attempts)
        for attempts in payments.values():
            first, *more = sorted(attempts, key=lambda c: (c["created_at"], c["charge_id"]))
            for charge in more:
                self.add("payment_retries", charge["created_at"], charge["application"], 1)
            if first["status"] == "failed":
                collected = any(c["status"] == "succeeded" for c in more)
                self.add("payment_recovery_rate", first["created_at"], first["application"], int(collected), 1)

    # accounts and what they do

    def _registrations(self):
        activity = defaultdict(list)
        for event in self.rows["events"]:
            if event["account_id"]:
                activity[event["account_id"]].append(event)
        self.activity = activity
        for account in self.rows["accounts"]:
            born, application = account["created_at"], account["application"]
            own = activity.get(account["account_id"], [])
            gone = account["deleted_at"]
            days = {
                e["occurred_at"].date()
                for e in own
                if not e["event_name"].endswith("_failed") and (not gone or e["occurred_at"] < gone)
            }
            country, channel = {"country": account["country"]}, {"acquisition_channel": account["acquisition_channel"]}
            self.add(
                "new_registrations",
                born,
                application,
                1,
                None,
                country | channel | {"account_type": account["account_type"]},
            )
            if account["account_type"] == "creator":
                self.add("new_creators", born, application, 1, None, country)
            if account["acquisition_channel"]:
                self.add("organic_share", born, application, int(account["acquisition_channel"] == "organic"), 1)
            paid = self.first_mrr.get(account["account_id"])
            self.add(
                "signup_to_paid_conversion_rate",
                born,
                application,
                int(bool(paid and paid <= born + MONTH_THIRTY)),
                1,
                country | channel,
            )
            activated = any(
                e["event_name"] in ACTIVATING and born <= e["occurred_at"] <= born + WEEK_SEVEN for e in own
            )
            self.add("activation_rate", born, application, int(activated), 1, channel)
            for number in (1, 7, 30, 90):
                came = born.date() + timedelta(days=number) in days
                self.add(f"retention_d{number}", born, application, int(came), 1, country | channel)
            for kind in ("student", "tutor"):
                if account["account_type"] == kind:
                    stayed = any(day >= born.date() + MONTH_THIRTY for day in days)
                    self.add(f"{kind}_retention_30d", born, application, int(stayed), 1)
            referrer = self.accounts.get(account["referred_by_account_id"])
            if referrer:
                self.member("referrers", born, referrer["application"], account["referred_by_account_id"])
            for start, end in self.months:
                if born < end and (not gone or gone >= end):
                    self.add(
                        "registered_accounts",
                        start,
                        application,
                        1,
                        None,
                        country | {"account_type": account["account_type"]},
                    )
                    self.add("telemetry_opt_in_rate", start, application, int(account["telemetry_opt_in"] is True), 1)
                    self.add("creators", start, application, int(account["account_type"] == "creator"))
        for start, _ in self.months:
            for application in {k[2] for k in self.sums if k[0] == "registered_accounts"}:
                registered = self.sums.get(("registered_accounts", start, application, "", ""), [0])[0]
                if registered:
                    self.found["referral_rate", start, application, "", ""] = (
                        Fraction(self.count("referrers", (start, application, "", ""))),
                        registered,
                    )

    def _activity(self):
        using = defaultdict(set)
        for event in self.rows["events"]:
            account = self.accounts.get(event["account_id"])
            gone = account and account["deleted_at"]
            if (
                not event["account_id"]
                or event["event_name"].endswith("_failed")
                or (gone and event["occurred_at"] >= gone)
            ):
                continue
            who, when = event["account_id"], event["occurred_at"]
            kind = account["account_type"] if account else None
            self.member("mau", when, event["application"], who, {"channel": event["channel"], "account_type": kind})
            home = account["application"] if account else event["application"]
            self.member("own_mau", when, home, (who, home), {"account_type": kind})
            if event["event_name"] == "feature.used":
                feature = (_properties(event)).get("feature", "(unknown)")
                for scope in self._scopes(when, event["application"], {"feature": feature}):
                    using[scope].add(who)
        for key, members in list(self.sets.items()):
            if key[0] == "mau":
                self.found["mau", *key[1:]] = (Fraction(len(members)), None)
                registered = self.sums.get(("registered_accounts", *key[1:]), [0])[0]
                if key[3] == "" and registered:
                    self.found["mau_rate", *key[1:]] = (Fraction(len(members)), registered)
            if key[0] == "own_mau":
                month = _next_month(key[1])
                if month < self.as_of:
                    stayed = len(
                        {w for w, _ in members} & {w for w, _ in self.sets.get(("own_mau", month, *key[2:]), set())}
                    )
                    total = len({w for w, _ in members})
                    if key[2] == "all":
                        stayed, total = len(members & self.sets.get(("own_mau", month, *key[2:]), set())), len(members)
                    self.found["user_retention_rate", month, *key[2:]] = (Fraction(stayed), Fraction(total))
                    self.found["user_churn_rate", month, *key[2:]] = (Fraction(total - stayed), Fraction(total))
        for scope, members in using.items():
            active = self.count("mau", (scope[0], scope[1], "", ""))
            if active:
                self.found["feature_adoption_rate", *scope] = (Fraction(len(members)), Fraction(active))

    def _sessions(self):
        visits = defaultdict(list)
        for event in self.rows["events"]:
            application, when, name = event["application"], event["occurred_at"], event["event_name"]
            self.add("tracked_events", when, application, 1, None, {"event_name": name})
            if event["session_id"]:
                visits[application, event["session_id"]].append(event)
            if name == "tool.invoked":
                properties = _properties(event)
                tool = {"tool": properties.get("tool", "(unknown)")}
                self.add("tool_invocations", when, application, 1, None, tool)
                self.add("tool_error_rate", when, application, int(properties.get("status") == "error"), 1, tool)
            if name in ("user.login", "user.login_failed"):
                self.add("auth_success_rate", when, application, int(name == "user.login"), 1)
        for (application, _), events in visits.items():
            first = min(events, key=lambda e: (e["occurred_at"], e["event_id"]))
            began, ended = first["occurred_at"], max(e["occurred_at"] for e in events)
            channel = {"channel": first["channel"]}
            self.add("sessions", began, application, 1, None, channel)
            self.add("session_duration", began, application, _seconds(ended - began), 1, channel)
            self.add("messages_per_session", began, application, 0, 1, channel)
            tools = sum(e["event_name"] == "tool.invoked" for e in events)
            if tools:
                self.add("tools_per_session", began, application, tools, 1)
        busy = defaultdict(int)
        for message in self.rows["messages"]:
            self.add(
                "messages_per_session",
                message["sent_at"],
                message["application"],
                1,
                0,
                {"channel": message["channel"]},
            )
            for application in (message["application"], "all"):
                busy[application, message["sent_at"].replace(minute=0, second=0, microsecond=0)] += 1
        peaks = defaultdict(int)
        for (application, hour), number in busy.items():
            peaks[_month(hour), application] = max(number, peaks[_month(hour), application])
        for (month, application), number in peaks.items():
            self.found["peak_messages_per_hour", month, application, "", ""] = (Fraction(number), None)

    def _conversations(self):
        for row in self.rows["conversations"]:
            natural = row["ended_naturally"] is True and not row["ended_at_is_to_come"]
            self.add(
                "conversation_completion_rate",
                row["started_at"],
                row["application"],
                int(natural),
                1,
                {"channel": row["channel"]},
            )

    # support and surveys

    def _support(self):
        stories = defaultdict(list)
        for event in self.rows["ticket_events"]:
            stories[event["ticket_id"]].append(event)
        self.tickets = {t["ticket_id"]: t for t in self.rows["tickets"]}
        for ticket in self.rows["tickets"]:
            if ticket["status"] in LEFT_OUT_TICKETS:
                continue
            application, created = ticket["application"], ticket["created_at"]
            story = stories[ticket["ticket_id"]]
            desk = {"channel": ticket["channel"], "priority": ticket["priority"]}
            self.add("ticket_volume", created, application, 1, None, desk | {"category": ticket["category"]})
            self.add("self_service_rate", created, application, 0, 1)
            replies = [
                e["occurred_at"] for e in story if e["event_type"] == "public_reply" and e["actor_type"] == "agent"
            ]
            if replies:
                self.measure(
                    "first_response_time", min(replies), application, _seconds(min(replies) - created) / 60, desk
                )
            escalated = [e["occurred_at"] for e in story if e["event_type"] == "escalated"]
            if escalated and ticket["priority"] == "urgent":
                self.measure("escalation_time", min(escalated), application, _seconds(min(escalated) - created) / 60)
            ends = sorted(
                (e["occurred_at"], e["event_type"] != "reopened")
                for e in story
                if e["event_type"] in ("solved", "closed", "reopened")
            )
            told = any(end for _, end in ends)
            if not told and ticket["status"] in ("solved", "closed") and ticket["updated_at"] < self.as_of:
                # nobody told when: at its last update
                ends.append((max(ticket["updated_at"], created), True))
            if not ends or not ends[-1][1]:
                continue
            reopened, last_reopened = (
                sum(not end for _, end in ends),
                max((at for at, end in ends if not end), default=created),
            )
            solved = [
                e["occurred_at"] for e in story if e["event_type"] == "solved" and e["occurred_at"] >= last_reopened
            ]
            resolved = max(solved) if solved else ends[-1][0]
            self.measure("resolution_time", resolved, application, _seconds(resolved - created) / 3600, desk)
            at_once = len(replies) == 1 and not reopened
            self.add(
                "first_contact_resolution_rate", resolved, application, int(at_once), 1, {"channel": ticket["channel"]}
            )
            self.add("ticket_reopen_rate", resolved, application, int(reopened > 0), 1)
        for visit in self.rows["help_center_visits"]:
            alone = int(not visit["led_to_ticket"])
            self.add("self_service_rate", visit["occurred_at"], visit["application"], alone, alone)
        self._medians("first_response_time", "escalation_time", "resolution_time")

    def _medians(self, *metrics, share=Fraction(1, 2)):
        for key, values in self.lists.items():
            if key[0] in metrics:
                self.found[key] = (_percentile(values, share), Fraction(len(values)))

    def _surveys(self):
        overall = {"nps_mean_score": "nps", "support_csat": "support_csat", "help_center_quality": "help_center"}
        for row in self.rows["survey_responses"]:
            score = Fraction(str(row["score"])) if row["score"] is not None and row["responded_at"] else None
            application, survey = row["application"], row["survey"]
            if survey == "csat" and row["question"] is None:
                self.add("csat_response_rate", row["sent_at"], application, int(score is not None), 1)
            if score is None:
                continue
            when = row["responded_at"]
            if survey == "creator_satisfaction" and row["question"] is not None:
                for name in (application, "all"):
                    line = self.sums["creator_satisfaction", _month(when), name, "question", row["question"]]
                    line[0], line[1] = line[0] + score, line[1] + 1
            if row["question"] is not None:
                continue
            for metric, kind in overall.items():
                if kind == survey:
                    self.add(metric, when, application, score, 1)
            if survey == "nps":
                self.add("nps", when, application, 100 * (int(score >= 9) - int(score <= 6)), 1)
            if survey == "csat":
                ticket = self.tickets.get(row["ticket_id"])
                self.add("csat", when, application, score, 1, {"channel": ticket["channel"] if ticket else None})
            if survey == "creator_satisfaction":
                self.add("creator_satisfaction", when, application, score, 1)

    # marketplace and creators

    def _marketplace(self):
        reviewed = {r["booking_id"] for r in self.rows["reviews"]}
        talk = defaultdict(int)
        for message in self.rows["messages"]:
            talk[message["booking_id"]] += 1
        for row in self.rows["bookings"]:
            application, country = row["application"], {"country": row["country"]}
            price = self._money(row["price_amount"], row["currency"], row["requested_at"].date())
            asked, agreed, done = row["requested_at"], row["confirmed_at"], row["completed_at"]
            self.add("bookings", asked, application, 1, None, country)
            self.add("booking_conversion_rate", asked, application, int(bool(agreed)), 1)
            self.add("messages_per_booking", asked, application, talk[row["booking_id"]], 1)
            if agreed:
                self.add("session_completion_rate", agreed, application, int(bool(done)), 1)
                self.add("booking_cancellation_rate", agreed, application, int(bool(row["cancelled_at"])), 1)
                if not row["cancelled_at"]:
                    self.add("gmv", agreed, application, price, None, country)
                    self.add(
                        "marketplace_net_revenue",
                        agreed,
                        application,
                        price * Fraction(str(row["commission_rate"])),
                        None,
                        country,
                    )
            if done:
                self.add("review_rate", done, application, int(row["booking_id"] in reviewed), 1)
                self.add("completed", done, application, 1)
                self.member("teaching", done, application, row["tutor_id"])
                if row["payment_state"] == "captured":
                    self.add("average_session_value", done, application, price, 1)
        for key in [k for k in self.sums if k[0] == "completed"]:
            self.found["completed_sessions_per_tutor", *key[1:]] = (
                self.sums[key][0],
                Fraction(self.count("teaching", key[1:])),
            )
        for row in self.rows["reviews"]:
            self.add("average_rating", row["created_at"], row["application"], Fraction(str(row["rating"])), 1)
        for row in self.rows["tutor_applications"]:
            self.add("tutor_approval_rate", row["applied_at"], row["application"], int(bool(row["approved_at"])), 1)
        for row in self.rows["package_purchases"]:
            self.member("buyers", row["purchased_at"], row["application"], row["account_id"])
        for key in [k for k in self.sets if k[0] == "buyers"]:
            active = self.count("mau", key[1:])
            if active:
                self.found["package_purchase_rate", *key[1:]] = (Fraction(len(self.sets[key])), Fraction(active))

    def _creators(self):
        made, talked = defaultdict(list), defaultdict(list)
        for item in self.rows["content_items"]:
            made[item["creator_id"]].append(item)
            for start, end in self.months:
                if item["created_at"] < end and (not item["archived_at"] or item["archived_at"] >= end):
                    self.add(f"{item['kind']}s", start, item["application"], 1)
        for row in self.rows["conversations"]:
            talked[row["creator_id"]].append(row["started_at"])
        earned = defaultdict(Fraction)
        for row in self.rows["creator_earnings"]:
            home = self.accounts.get(row["creator_id"])
            application = home["application"] if home else row["application"]
            earned[row["creator_id"], application, _month(_midnight(row["earned_on"]))] += self._money(
                row["amount"], row["currency"], row["earned_on"]
            )
        for (who, application, month), amount in earned.items():
            if amount > 0:
                self.member("earning", month, application, who)
                if _next_month(month) < self.as_of:
                    now = earned.get((who, application, _next_month(month)), Fraction(0))
                    self.add(
                        "creator_revenue_growth_rate", _next_month(month), application, 100 * (now - amount) / amount, 1
                    )
            for threshold in (1000, 5000, 10000):
                if amount > threshold:
                    self.member("over", month, application, who, {"threshold": threshold})
        used = defaultdict(dict)
        for account in self.rows["accounts"]:
            if account["account_type"] != "creator":
                continue
            who, born, application, gone = (
                account["account_id"],
                account["created_at"],
                account["application"],
                account["deleted_at"],
            )
            until = born + WEEK_SEVEN
            own = self.activity.get(who, [])
            done = any(
                e["event_name"] == "creator.onboarding_completed" and born <= e["occurred_at"] <= until for e in own
            )
            self.add("creator_onboarding_success_rate", born, application, int(done), 1)
            steps = {
                "knowledge_base_uploaded": any(
                    i["kind"] == "document" and born <= i["created_at"] <= until for i in made[who]
                ),
                "program_created": any(i["kind"] == "program" and born <= i["created_at"] <= until for i in made[who]),
                "first_user_interaction": any(born <= at <= until for at in talked[who]),
            }
            for name in (application, "all"):
                line = self.sums["creator_onboarding_step_rate", _month(born), name, "", ""]
                line[0], line[1] = line[0] + int(all(steps.values())), line[1] + 1
                for step, taken in steps.items():
                    line = self.sums["creator_onboarding_step_rate", _month(born), name, "step", step]
                    line[0], line[1] = line[0] + int(taken), line[1] + 1
            for event in own:
                if event["event_name"] == "feature.used" and (not gone or event["occurred_at"] < gone):
                    feature, at = _properties(event).get("feature", "(unknown)"), max(event["occurred_at"], born)
                    used[who][feature] = min(at, used[who].get(feature, at))
            for start, end in self.months:
                if gone and gone < end:
                    continue
                known = {f for f, at in used[who].items() if at < end}
                for feature in known:
                    for name in (application, "all"):
                        self.sets["adopters", start, name, "feature", feature].add(who)
                if known:
                    self.member("adopters", start, application, who)
        for start, _ in self.months:
            for application in {k[2] for k in self.sums if k[0] == "creators"}:
                creators = self.sums.get(("creators", start, application, "", ""), [Fraction(0)])[0]
                if not creators:
                    continue
                scope = (start, application, "", "")
                for metric, ledger in (("documents_per_creator", "documents"), ("programs_per_creator", "programs")):
                    self.found[metric, *scope] = (self.sums.get((ledger, *scope), [Fraction(0)])[0], creators)
                self.found["creator_success_rate", *scope] = (Fraction(self.count("earning", scope)), creators)
                self.found["creators_earning_over", *scope] = (Fraction(self.count("over", scope)), creators)
                for threshold in ("1000", "5000", "10000"):
                    own = (start, application, "threshold", threshold)
                    self.found["creators_earning_over", *own] = (Fraction(self.count("over", own)), creators)
                for key in [k for k in self.sets if k[0] == "adopters" and k[1:3] == (start, application)]:
                    self.found["creator_feature_adoption_rate", *key[1:]] = (Fraction(len(self.sets[key])), creators)

    # machines and their makers

    def _signals(self):
        for row in self.rows["api_requests"]:
            when, application, service = row["occurred_at"], row["application"], {"service": row["service"]}
            failed, took = int(500 <= row["status_code"] <= 599), Fraction(str(row["duration_ms"]))
            self.add("api_requests", when, application, 1, None, service)
            self.add("error_rate", when, application, failed, 1, service)
            if row["is_critical"]:
                self.add("critical_error_rate", when, application, failed, 1, service)
            if row["service"] == "auth":
                self.add("auth_response_time", when, application, took, 1)
            if row["service"] == "api":
                self.add("api_response_time", when, application, took, 1, {"route": row["route"]})
                self.measure("api", when, application, took)
                for name in (application, "all"):
                    self.lists["api_hour", when.replace(minute=0, second=0, microsecond=0), name].append(took)
        for key, values in list(self.lists.items()):
            if key[0] == "api":
                for number in (50, 95, 99):
                    self.found[f"api_response_time_p{number}", *key[1:]] = (
                        _percentile(values, Fraction(number, 100)),
                        Fraction(len(values)),
                    )
        busiest = {}
        for key, values in self.lists.items():
            if key[0] == "api_hour":
                place = (_month(key[1]), key[2])
                best = busiest.get(place)
                if best is None or (-len(values), key[1]) < (-len(best[1]), best[0]):
                    busiest[place] = (key[1], values)
        for (month, name), (_, values) in busiest.items():
            self.found["peak_hour_response_time_p95", month, name, "", ""] = (
                _percentile(values, Fraction(95, 100)),
                Fraction(len(values)),
            )
        for row in self.rows["uptime_checks"]:
            metric = "third_party_uptime" if row["is_third_party"] else "uptime"
            self.add(metric, row["checked_at"], row["application"], int(row["is_up"]), 1, {"service": row["service"]})
        for row in self.rows["error_events"]:
            if row["level"] in ("error", "fatal"):
                self.add(
                    "application_errors",
                    row["occurred_at"],
                    row["application"],
                    1,
                    None,
                    {"level": row["level"], "service": row["service"]},
                )
        for row in self.rows["integration_calls"]:
            metric = {"setup": "integration_success_rate", "call": "integration_call_success_rate"}.get(row["kind"])
            if metric:
                self.add(
                    metric,
                    row["occurred_at"],
                    row["application"],
                    int(row["succeeded"]),
                    1,
                    {"integration": row["integration"]},
                )
        for row in self.rows["web_vitals"]:
            when, application, device = row["occurred_at"], row["application"], {"device": row["device"]}
            for metric, column in (("page_load_time", "page_load_ms"), ("lcp", "lcp_ms"), ("tti", "tti_ms")):
                if row[column] is not None:
                    self.measure(metric, when, application, Fraction(str(row[column])), device | {"page": row["page"]})
            for metric in ("lighthouse_score", "accessibility_score"):
                if row[metric] is not None:
                    self.add(metric, when, application, Fraction(str(row[metric])), 1, device)
        self._medians("page_load_time", "lcp", "tti", share=Fraction(3, 4))
        peaks = {}
        for row in self.rows["resource_samples"]:
            for name in (row["application"], "all"):
                key = ("peak_concurrent_users", _month(row["sampled_at"]), name, "", "")
                peaks[key] = max(peaks.get(key, 0), row["concurrent_users"])
        self.found |= {key: (Fraction(value), None) for key, value in peaks.items()}
        for row in self.rows["security_events"]:
            labels = {"kind": row["kind"], "severity": row["severity"]}
            self.add(
                "security_incidents",
                row["occurred_at"],
                row["application"],
                int(row["severity"] in ("high", "critical")),
                None,
                labels,
            )
            self.add("security_breaches", row["occurred_at"], row["application"], int(row["kind"] == "breach"))

    def _engineering(self):
        for row in self.rows["incidents"]:
            severity = {"severity": row["severity"]}
            if row["resolved_at"]:
                self.add(
                    "mttr",
                    row["resolved_at"],
                    row["application"],
                    _seconds(row["resolved_at"] - row["started_at"]) / 3600,
                    1,
                    severity,
                )
            if row["acknowledged_at"]:
                self.add("time_to_acknowledge", row["acknowledged_at"], row["application"],
                         _seconds(row["acknowledged_at"] - row["started_at"]) / 60, 1, severity)  # fmt: skip
        for row in self.rows["deployments"]:
            when, application = row["started_at"], row["application"]
            if row["status"] != "running":
                self.add("deployment_success_rate", when, application, int(row["status"] == "succeeded"), 1)
            if row["status"] in ("failed", "rolled_back") and row["recovered_at"]:
                self.add("deployment_recovery_time", when, application, _seconds(row["recovered_at"] - when) / 60, 1)
        sprints = {}
        for row in self.rows["work_items"]:
            done, application = row["completed_at"], row["application"]
            if row["kind"] == "bug" and done:
                self.measure(
                    "bug_resolution_time",
                    done,
                    application,
                    _seconds(done - row["created_at"]) / 3600,
                    {"priority": row["priority"]},
                )
            if row["kind"] == "feature" and row["due_at"] and done:
                self.add("on_time_delivery_rate", done, application, int(done <= row["due_at"]), 1)
            if row["sprint"] and row["sprint_ends_on"]:
                sprints.setdefault((application, row["sprint"]), []).append(row)
        for (application, _), items in sprints.items():
            last_day = max(i["sprint_ends_on"] for i in items)
            over = _midnight(last_day + DAY)
            if over <= self.as_of:
                points = sum(
                    (
                        Fraction(str(i["story_points"] or 0))
                        for i in items
                        if i["completed_at"] and i["completed_at"] < over
                    ),
                    Fraction(0),
                )
                self.add("development_velocity", _midnight(last_day), application, points, 1)
        for row in self.rows["pull_requests"]:
            quick = row["first_review_at"] and row["first_review_at"] <= row["opened_at"] + DAY
            self.add("code_review_within_24h_rate", row["opened_at"], row["application"], int(bool(quick)), 1)
            if row["merged_at"] and row["review_cycles"] is not None:
                self.add("review_cycles_per_pr", row["merged_at"], row["application"], int(row["review_cycles"]), 1)
        self._medians("bug_resolution_time")

    def _others(self):
        for row in self.rows["ai_responses"]:
            for metric, column in (("ai_satisfaction_rate", "user_satisfied"), ("ai_relevance_rate", "is_relevant"),
                                   ("ai_accuracy_rate", "is_accurate"), ("ai_helpfulness_rate", "is_helpful")):  # fmt: skip
                if row[column] is not None:
                    self.add(metric, row["created_at"], row["application"], int(row[column]), 1)
            if row["confidence"] is not None:
                self.add("ai_confidence", row["created_at"], row["application"], Fraction(str(row["confidence"])), 1)
        for row in self.rows["package_downloads"]:
            self.add(
                "package_downloads",
                _midnight(row["downloaded_on"]),
                row["application"],
                row["downloads"],
                None,
                {"package": row["package"]},
            )
        figures = defaultdict(list)
        for row in self.rows["community_snapshots"]:
            figures[row["measure"], row["application"]].append((row["captured_on"], Fraction(row["value"])))
        columns = {"test_coverage": "test_coverage_percent", "code_duplication": "duplication_percent",
                   "technical_debt_ratio": "technical_debt_percent", "critical_vulnerabilities": "critical_vulnerabilities",
                   "high_vulnerabilities": "high_vulnerabilities"}  # fmt: skip
        for row in self.rows["code_quality"]:
            for metric, column in columns.items():
                figures[metric, row["application"], row["component"]].append(
                    (row["captured_on"], Fraction(str(row[column])))
                )
        standing = defaultdict(list)
        for (metric, application, *component), known in figures.items():
            known.sort()
            days = [day for day, _ in known]
            for start, end in self.months:
                place = bisect_left(days, end.date())
                if place:
                    value = known[place - 1][1]
                    for name in (application, "all"):
                        if component:
                            standing[metric, start, name, "component", component[0]].append(value)
                        if not component or component[0] == "all":
                            standing[metric, start, name, "", ""].append(value)
        shares = {"test_coverage", "code_duplication", "technical_debt_ratio"}
        for key, values in standing.items():
            self.found[key] = (sum(values) / len(values) if key[0] in shares else sum(values), None)

    # metrics of metrics

    def _growth(self):
        """What grew since the month before, by what it was then."""
        grown = {"mrr": "mrr_growth_rate", "registered_accounts": "registration_growth_rate", "mau": "mau_growth_rate",
                 "new_creators": "creator_acquisition_growth_rate"}  # fmt: skip
        for (metric, month, application, segment, _), (value, _) in list(self.found.items()):
            if metric in grown and segment == "" and _next_month(month) < self.as_of:
                later = self.found.get((metric, _next_month(month), application, "", ""), (Fraction(0),))[0]
                self.found[grown[metric], _next_month(month), application, "", ""] = (later - value, value)

    def _unit_economics(self):
        ltv, cac = {}, {}
        for (metric, *scope), (lost, base) in list(self.found.items()):
            if metric == "customer_churn_rate" and scope[2] in ("", "plan_tier") and base:
                mrr, paying = self.found.get(("mrr", *scope)), self.found.get(("paying_accounts", *scope))
                margin = mrr[0] * GROSS_MARGIN / paying[0] if mrr else Fraction(0)
                self.found["ltv", *scope] = (margin, lost / base)
                if lost and mrr:
                    ltv[tuple(scope)] = _cents(margin / (lost / base))
        for row in self.rows["marketing_spend"]:
            self.add(
                "spend",
                _midnight(row["spend_date"]),
                row["application"],
                self._money(row["amount"], row["currency"], row["spend_date"]),
            )
        for (metric, *scope), (spend, _) in list(self.sums.items()):
            if metric == "spend":
                came = self.found.get(("new_accounts", *scope), (Fraction(0),))[0]
                self.found["cac", *scope] = (spend, came)
                if came:
                    cac[tuple(scope)] = _cents(spend / came)
        for scope in set(ltv) & set(cac):
            self.found["ltv_cac_ratio", *scope] = (ltv[scope], cac[scope])
        for metric, known in (("ltv_growth_rate", ltv), ("cac_change_rate", cac)):
            for (month, application, segment, value), now in known.items():
                before = known.get((month.replace(year=month.year - 1), application, segment, value))
                if segment == "" and before:
                    self.found[metric, month, application, "", ""] = (now - before, before)

    def _targets(self):
        """The share of the due monthly targets that were met, by the month of the value."""
        catalogue = {m["metric_id"]: m for m in _seed("metric_catalogue")}
        first_days = {}
        for account in self.rows["accounts"]:
            born, name = account["created_at"], account["application"]
            first_days[name] = min(first_days.get(name, born), born)
        for target in _seed("targets"):
            name, metric = target["application"], catalogue[target["metric_id"]]
            if target["grain"] != "month" or name not in {key[2] for key in self.found}:
                continue
            due, window, history = (
                _due(target["due"], first_days.get(name)),
                timedelta(days=WINDOWS.get(metric["metric_id"], 0)),
                [],
            )
            for start, end in self.months:
                place = (start, name, target["segment"] or "", target["segment_value"] or "")
                value = self._value(metric, place)
                if value is None or end + window > self.as_of:
                    continue
                is_met = _is_met(target, value, history)
                history.append(value)
                if is_met is not None and due is not None and due < end:
                    for scope in (name, "all"):
                        line = self.found.get(("targets_met_rate", start, scope, "", ""), (Fraction(0), Fraction(0)))
                        self.found["targets_met_rate", start, scope, "", ""] = (line[0] + is_met, line[1] + 1)

    def _value(self, metric: dict, place: tuple) -> Fraction | None:
        """A metric's published value; a sum of nothing is 0 once its series has begun."""
        name = metric["metric_id"]
        line = self.found.get((name, *place))
        if line is None:
            begun = any(key[0] == name and key[2:] == place[1:] and key[1] <= place[0] for key in self.found)
            return Fraction(0) if begun and metric["kind"] in ("sum", "count", "distinct", "snapshot") else None
        if metric["kind"] in ("ratio", "mean"):
            if not line[1]:
                return None
            value = line[0] / line[1] * (100 if metric["unit"] == "percent" and metric["kind"] == "ratio" else 1)
        else:
            value = line[0]
        return _cents(value) if metric["unit"] == "money" else value


def truth(tables: dict, as_of: datetime) -> pd.DataFrame:
    """The books' lines with exact numbers as text (fractions as n/d) and the metrics' plain values beside them."""
    lines = Books(tables, as_of).lines()
    known = lines.metric_id.isin({m["metric_id"] for m in _seed("metric_catalogue")})
    lines = lines[known].reset_index(drop=True)
    for column in ("numerator", "denominator"):
        exact = [None if v is None or v != v else str(v) for v in lines[column]]
        lines[column] = pd.Series(exact, dtype=object)
    return lines


def _seed(name: str) -> list[dict]:
    """The rows of a contract file, empty fields as None."""
    table = pd.read_csv(ROOT / "dbt_project" / "seeds" / f"{name}.csv", dtype=str)
    return table.astype(object).where(table.notna(), None).to_dict("records")


def _due(text: str | None, first_day: datetime | None) -> datetime | None:
    """From when on a target is due; None for never, as far as is known."""
    if text is None:
        return datetime.min.replace(tzinfo=UTC)
    unit, _, amount = text.partition(" ")
    if first_day is None or unit not in ("month", "week"):
        return None
    day = first_day.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "week":
        return day + int(amount) * WEEK_SEVEN
    number = day.year * 12 + day.month - 1 + int(amount)
    month = datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return month.replace(day=min(day.day, (_next_month(month) - DAY).day))


def _is_met(target: dict, value: Fraction, history: list) -> bool | None:
    """Whether a value meets its target; a trend is met while it does not leave mean +- 3 deviations of the 8 values before."""
    if target["target"] is not None:
        wanted = Fraction(target["target"])
        return {">": value > wanted, ">=": value >= wanted, "<": value < wanted, "<=": value <= wanted}[
            target["operator"]
        ]
    before = history[-8:]
    if len(before) < 8:
        return None
    middle = sum(before) / 8
    deviation = math.sqrt(sum((v - middle) ** 2 for v in before) / 7)
    return value >= middle - 3 * deviation if target["trend"] == "drop" else value <= middle + 3 * deviation


def _cents(value: Fraction) -> Fraction:
    """Rounded half away from zero to the minor unit."""
    return Fraction(math.floor(abs(value) * 100 + Fraction(1, 2)), 100) * (1 if value >= 0 else -1)


def _listed(row) -> Fraction:
    """A subscription row's MRR without its discounts."""
    return _monthly(row | {"discount_percent": None, "discount_amount": None})


def _nothing() -> None:
    """What a row has in a column that it lacks."""


def _cells(column: pd.Series) -> list:
    """A column as plain Python values, None for what is missing."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        column = pd.Series(column.dt.to_pydatetime(), dtype=object)
    values, missing = column.tolist(), column.isna().to_numpy()
    if not missing.any():
        return values
    return [None if is_missing else value for value, is_missing in zip(values, missing, strict=True)]


def _first_time(name: str, rows: list) -> datetime:
    times = (r[entities()[name].own_time] for r in rows)
    return min(t if isinstance(t, datetime) else _midnight(t) for t in times)


def _monthly(row) -> Fraction:
    """A subscription row's MRR in its own currency's major unit."""
    amount = (
        Fraction(str(row["quantity"]))
        * Fraction(str(row["unit_amount"]))
        * (1 - Fraction(str(row["discount_percent"] or 0)) / 100)
    )
    amount = max(amount - Fraction(str(row["discount_amount"] or 0)), Fraction(0))
    per_month = {"month": Fraction(1), "year": Fraction(1, 12), "week": Fraction(52, 12), "day": Fraction(365, 12)}
    return amount * per_month[row["billing_interval"]] / row["interval_count"] / 10 ** EXPONENTS.get(row["currency"], 2)


def _properties(event) -> dict:
    return json.loads(event["properties"]) if event["properties"] else {}


def _percentile(values: list, share: Fraction) -> Fraction:
    ranked = sorted(values, key=float)
    place = share * (len(ranked) - 1)
    low = int(place)
    high = min(low + 1, len(ranked) - 1)
    return ranked[low] + (ranked[high] - ranked[low]) * (place - low)


def _seconds(span: timedelta) -> Fraction:
    return Fraction(span // timedelta(microseconds=1), 1_000_000)


def _month(when: datetime) -> datetime:
    return datetime(when.year, when.month, 1, tzinfo=UTC)


def _next_month(month: datetime) -> datetime:
    return datetime(month.year + month.month // 12, month.month % 12 + 1, 1, tzinfo=UTC)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
