"""The company's operations: the marketplace, creators, surveys, the machines that serve the customers, and the engineers."""

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from northstar.demo.times import instants, moments, moments_from

if TYPE_CHECKING:
    # for the type checker alone: company.py imports this module
    from northstar.demo.company import Company

Random = np.random.Generator
# Any: a row of a source's table, whose cells are of the types that the contract says
TableRow = dict[str, Any]

ROUTES = {
    "api": ["/accounts", "/bookings", "/search", "/messages", "/reports", None],
    "auth": ["/login", "/token"],
    "web": ["/", "/pricing"],
}
INTEGRATIONS = ["calendar", "crm", "payments"]
PACKAGES = ["northstar-cli", "northstar-sdk"]


def marketplace(company: "Company") -> None:
    """Bookings of the students with the tutors of their application, the packages and reviews, and how tutors came in."""
    random, people = company.random("marketplace"), company.people
    end = pd.Timestamp(company.end)
    booked: list[TableRow] = []
    bought: list[TableRow] = []
    applications: list[TableRow] = []
    for application in company.applications:
        members = people[people.application == application]
        students, tutors = members[members.account_type == "student"], members[members.account_type == "tutor"]
        for tutor in tutors.itertuples():
            applied = tutor.created_at + timedelta(seconds=int(random.exponential(86400)))
            decided = applied + timedelta(seconds=int(random.exponential(3 * 86400)) + 3600)
            approved = random.random() < 0.68
            steps = decided + timedelta(seconds=int(random.exponential(2 * 86400)))
            row = {"application_id": f"ta_{tutor.account_id[4:]}", "account_id": tutor.account_id, "application": application,
                   "applied_at": applied, "approved_at": decided if approved else None, "rejected_at": None if approved else decided,
                   "profile_completed_at": steps if approved and random.random() < 0.85 else None,
                   "availability_set_at": steps + timedelta(hours=5) if approved and random.random() < 0.7 else None}  # fmt: skip
            applications.append(row | {"updated_at": max(t for t in row.values() if isinstance(t, pd.Timestamp))})
        if len(tutors) == 0:
            continue
        for student in students.itertuples():
            package = None
            if random.random() < 0.3:
                package = f"pp_{len(bought):06d}"
                bought_at = student.created_at + timedelta(seconds=int(random.exponential(15 * 86400)))
                currency, price = ("JPY", 24000) if student.country == "JP" else ("USD", 18000)
                bought.append({"package_purchase_id": package, "account_id": student.account_id, "application": application,
                                 "sessions_total": 5, "amount": price, "currency": currency, "purchased_at": bought_at})  # fmt: skip
            when = student.created_at
            for _ in range(random.poisson(min(student.stays_days, 150) / 14)):
                when += timedelta(seconds=int(random.exponential(10 * 86400)) + 600)
                booked.append(_booking(random, len(booked), student, tutors, application, package, when))
    bookings = pd.DataFrame([b for b in booked if b["requested_at"] < end])
    if len(bookings):
        company.tables["bookings"] = _times(
            bookings, "requested_at", "confirmed_at", "completed_at", "cancelled_at", "updated_at"
        )
        _reviews(company, random)
        _booking_messages(company, random)
    if bought:
        packages = pd.DataFrame(bought)
        company.tables["package_purchases"] = packages[packages.purchased_at < end]
    if applications:
        applied = pd.DataFrame(applications)
        company.tables["tutor_applications"] = _times(
            applied[applied.applied_at < end], "applied_at", "approved_at", "rejected_at", "profile_completed_at",
            "availability_set_at", "updated_at",
        )  # fmt: skip


# Any: pandas gives the rows that it iterates over no type
def _booking(
    random: Random,
    number: int,
    student: Any,
    tutors: pd.DataFrame,
    application: str,
    package: str | None,
    requested: pd.Timestamp,
) -> TableRow:
    confirmed = (
        requested + timedelta(seconds=int(random.exponential(8 * 3600)) + 60) if random.random() < 0.74 else None
    )
    over = confirmed and confirmed + timedelta(seconds=int(random.exponential(3 * 86400)) + 3600)
    fate = random.random()
    completed = over if confirmed and fate < 0.88 else None
    cancelled = over if confirmed and not completed and fate < 0.97 else None
    if confirmed is None and fate < 0.3:
        cancelled = requested + timedelta(hours=2)
    currency, price = (
        ("JPY", 5200)
        if student.country == "JP"
        else ("EUR", 4300)
        if student.country in ("DE", "FR")
        else ("USD", 4800)
    )
    state = "captured" if completed and random.random() < 0.96 else "authorized" if confirmed else "none"
    return {"booking_id": f"bo_{number:07d}", "student_id": student.account_id,
            "tutor_id": tutors.account_id.iloc[int(random.integers(len(tutors)))], "application": application,
            "country": student.country, "package_purchase_id": package, "price_amount": price + 100 * int(random.integers(0, 20)),
            "currency": currency, "commission_rate": "0.15" if random.random() < 0.8 else "0.2", "requested_at": requested,
            "confirmed_at": confirmed, "completed_at": completed, "cancelled_at": cancelled, "payment_state": state,
            "updated_at": max(t for t in (requested, confirmed, completed, cancelled) if t is not None)}  # fmt: skip


def _reviews(company: "Company", random: Random) -> None:
    done = company.tables["bookings"].dropna(subset=["completed_at"])
    done = done[random.random(len(done)) < 0.45]
    written = instants(done.completed_at) + (random.exponential(86400, len(done)) + 60).astype("timedelta64[s]")
    reviews = pd.DataFrame({
        "review_id": [f"rv_{b[3:]}" for b in done.booking_id], "booking_id": done.booking_id.to_numpy(),
        "reviewer_id": done.student_id.to_numpy(), "application": done.application.to_numpy(),
        "rating": random.choice([2, 3, 4, 4.5, 5], len(done), p=[0.02, 0.06, 0.22, 0.2, 0.5]),
        "created_at": moments(written),
    })  # fmt: skip
    company.tables["reviews"] = reviews[reviews.created_at < company.end]


def _booking_messages(company: "Company", random: Random) -> None:
    bookings = company.tables["bookings"]
    size = random.poisson(5.5, len(bookings))
    booking_index = np.repeat(np.arange(len(bookings)), size)
    sent = instants(bookings.requested_at)[booking_index] + (random.random(len(booking_index)) * 2 * 86400).astype(
        "timedelta64[s]"
    )
    messages = pd.DataFrame({
        "message_id": [f"mb_{i:08d}" for i in range(len(booking_index))], "booking_id": bookings.booking_id.to_numpy()[booking_index],
        "sender_type": random.choice(np.array(["user", "tutor"], dtype=object), len(booking_index)),
        "application": bookings.application.to_numpy()[booking_index], "channel": "web", "sent_at": moments(sent),
    })  # fmt: skip
    both = pd.concat([company.tables["messages"], messages[messages.sent_at < company.end]], ignore_index=True)
    company.tables["messages"] = both


def creators(company: "Company") -> None:
    """What creators make and earn, and the events about it (company.extra_events)."""
    random, people = company.random("creators"), company.people
    own = people[people.account_type == "creator"]
    end = pd.Timestamp(company.end)
    items: list[TableRow] = []
    earnings: list[TableRow] = []
    # Any: a row of the creators, as above
    events: list[tuple[Any, str, pd.Timestamp]] = []
    for creator in own.itertuples():
        skill, since = random.gamma(1.6, 900), creator.created_at
        last = min(end, since + timedelta(days=creator.stays_days + 30))
        last = last if pd.isna(creator.deleted_at) else min(last, creator.deleted_at)
        if random.random() < 0.8:
            events.append(
                (creator, "creator.onboarding_completed", since + timedelta(seconds=int(random.exponential(3 * 86400))))
            )
        for kind, mean in (("document", 12), ("program", 2)):
            when = since
            for _ in range(random.poisson(mean)):
                when += timedelta(seconds=int(random.exponential(5 * 86400)))
                archived = when + timedelta(days=40) if random.random() < 0.1 else None
                items.append({"content_item_id": f"ci_{len(items):07d}", "creator_id": creator.account_id, "application": creator.application,
                              "kind": kind, "created_at": when, "archived_at": archived, "updated_at": archived or when})  # fmt: skip
                events.append((creator, "content.created", when))
        when = since
        while (when := when + timedelta(seconds=int(random.exponential(9 * 86400)))) < last:
            events.append((creator, "content.updated", when))
        for day in pd.date_range(since.normalize(), last, freq="D", inclusive="left"):
            if random.random() < 0.3:
                amount = int(random.gamma(1.2, skill) * 12)
                earnings.append({"creator_id": creator.account_id, "application": creator.application, "earned_on": day.date(),
                                 "amount": amount, "currency": "USD"})  # fmt: skip
    if items:
        table = pd.DataFrame(items)
        company.tables["content_items"] = _times(
            table[table.created_at < end], "created_at", "archived_at", "updated_at"
        )
    if earnings:
        company.tables["creator_earnings"] = pd.DataFrame(earnings)
    company.extra_events.append(pd.DataFrame({
        "event_name": [name for _, name, _ in events], "occurred_at": pd.to_datetime([at for _, _, at in events], utc=True),
        "account_id": [c.account_id for c, _, _ in events], "application": [c.application for c, _, _ in events],
        "country": [c.country for c, _, _ in events], "properties": None,
    }))  # fmt: skip
    conversations = company.tables["conversations"]
    picks = own.account_id.to_numpy()[random.integers(0, len(own), len(conversations))] if len(own) else None
    conversations["creator_id"] = np.where(random.random(len(conversations)) < 0.7, picks, None) if len(own) else None


def experiments(company: "Company") -> None:
    """Two experiments: who saw which variant, and the goal that some reached (company.extra_events)."""
    random, people = company.random("experiments"), company.people
    for name, goal, odds in (
        ("checkout_v2", "payment.completed", (0.11, 0.16)),
        ("new_search", "booking.requested", (0.3, 0.31)),
    ):
        participants = people[random.random(len(people)) < 0.4]
        is_treated = random.random(len(participants)) < 0.5
        at = instants(participants.created_at) + (random.exponential(4 * 86400, len(participants))).astype(
            "timedelta64[s]"
        )
        variant = np.where(is_treated, "treatment", "control")
        reached = random.random(len(participants)) < np.where(is_treated, odds[1], odds[0])
        reached_at = at + (random.exponential(86400, len(participants)) + 5).astype("timedelta64[s]")
        shared = {
            "account_id": participants.account_id.to_numpy(),
            "application": participants.application.to_numpy(),
            "country": participants.country.to_numpy(),
        }
        exposed = pd.DataFrame({"event_name": "experiment.exposed", "occurred_at": moments(at), **shared, "properties": [
            json.dumps({"experiment": name, "variant": v, "goal": goal}) for v in variant]})  # fmt: skip
        goals = pd.DataFrame({"event_name": goal, "occurred_at": moments(reached_at), **shared, "properties": None})[
            reached
        ]
        company.extra_events += [exposed, goals]


def surveys(company: "Company") -> None:
    """NPS, CSAT and creator surveys: sent to many, answered by some."""
    random, people = company.random("surveys"), company.people
    tickets: npt.NDArray[np.object_] = (
        company.tables["tickets"].ticket_id.to_numpy() if "tickets" in company.tables else np.array([None])
    )
    parts = [company.tables["survey_responses"]] if "survey_responses" in company.tables else []
    count = len(parts)
    for survey, scores, odds, share, answer in (
        ("nps", range(11), [0.02, 0.01, 0.02, 0.02, 0.03, 0.05, 0.07, 0.13, 0.2, 0.25, 0.2], 0.5, 0.4),
        ("csat", range(1, 6), [0.02, 0.04, 0.1, 0.34, 0.5], 0.7, 0.3),
        ("creator_satisfaction", range(1, 6), [0.01, 0.02, 0.07, 0.3, 0.6], 3.0, 0.6),
        ("help_center", range(1, 6), [0.03, 0.05, 0.12, 0.4, 0.4], 0.3, 0.5),
    ):
        recipients = people[people.account_type == "creator"] if survey == "creator_satisfaction" else people
        if len(recipients) == 0:
            continue
        who = random.integers(0, len(recipients), int(len(recipients) * share))
        span = (pd.Timestamp(company.end) - recipients.created_at).dt.total_seconds().to_numpy()[who]
        sent = instants(recipients.created_at)[who] + (random.random(len(who)) * span).astype("timedelta64[s]")
        responded = sent + (random.exponential(40000, len(who))).astype("timedelta64[s]")
        answered = random.random(len(who)) < answer
        questions = np.array([None, "earnings", "tools"], dtype=object)
        about = tickets[random.integers(0, len(tickets), len(who))]
        parts.append(pd.DataFrame({
            "survey": survey, "account_id": recipients.account_id.to_numpy()[who], "application": recipients.application.to_numpy()[who],
            "ticket_id": np.where((survey == "csat") & (random.random(len(who)) < 0.6), about, np.array(None, dtype=object)),
            "question": random.choice(questions, len(who)) if survey == "creator_satisfaction" else None,
            "score": np.where(answered, random.choice(list(scores), len(who), p=odds), np.nan),
            "comment": None, "sent_at": moments(sent), "responded_at": moments(responded).where(answered),
            "updated_at": moments(responded).where(answered, moments(sent)),
        }))  # fmt: skip
    responses = pd.concat(parts[count:], ignore_index=True)
    responses.insert(0, "response_id", [f"sv_{i:06d}" for i in range(len(responses))])
    company.tables["survey_responses"] = pd.concat([*parts[:count], responses], ignore_index=True)


def machines(company: "Company") -> None:
    """Requests, probes, errors, load, statements, page loads, integrations and security findings of the monitored days."""
    random = company.random("machines")
    begin = max(company.start, company.end - timedelta(days=company.monitored_days))
    seconds = (company.end - begin).total_seconds()
    apps = np.array(company.applications, dtype=object)
    count = int(len(company.people) * 12)

    def random_moments(number: int) -> pd.Series:
        # hours of the day: more requests in the afternoon
        day = np.sort(random.integers(0, max(int(seconds // 86400), 1), number)) * 86400
        hour = np.clip(random.normal(14, 4.5, number), 0, 23.999) * 3600
        return moments_from(begin, np.minimum(day + hour, seconds - 1))

    service = random.choice(np.array(["api", "auth", "web"], dtype=object), count, p=[0.7, 0.2, 0.1])
    route = np.empty(count, dtype=object)
    for name, routes in ROUTES.items():
        own = service == name
        route[own] = random.choice(np.array(routes, dtype=object), own.sum())
    company.tables["api_requests"] = pd.DataFrame({
        "request_id": [f"rq_{i:08d}" for i in range(count)], "application": random.choice(apps, count), "service": service,
        "route": route, "status_code": random.choice([200, 201, 302, 404, 500, 503, 599], count, p=[0.85, 0.05, 0.03, 0.06, 0.006, 0.003, 0.001]),
        "duration_ms": np.round(random.lognormal(4.4, 0.7, count), 3), "is_critical": random.random(count) < 0.15,
        "occurred_at": random_moments(count),
    })  # fmt: skip
    hours = pd.date_range(begin, company.end, freq="1h", inclusive="left", unit="us")
    probes, samples, statements = [], [], []
    for application in company.applications:
        for name, is_third_party in (("api", False), ("web", None), ("mail_provider", True)):
            up = random.random(len(hours)) < (0.995 if is_third_party else 0.998)
            probes.append(pd.DataFrame({"service": f"{application}_{name}", "application": application, "checked_at": hours + timedelta(minutes=5),
                                        "is_up": up, "is_third_party": is_third_party}))  # fmt: skip
        for name in ("app_server", "database"):
            samples.append(pd.DataFrame({
                "resource": f"{application}_{name}", "application": application, "sampled_at": hours,
                "cpu_percent": np.round(np.clip(random.normal(45, 15, len(hours)), 0, 100), 2),
                "memory_percent": np.round(np.clip(random.normal(60, 8, len(hours)), 0, 100), 2),
                "concurrent_users": random.poisson(40, len(hours)), "network_latency_ms": np.round(random.gamma(4, 3, len(hours)), 2)}))  # fmt: skip
        for number in range(2):
            calls = random.poisson(90, len(hours))
            statements.append(pd.DataFrame({
                "query_id": f"{application}_q{number}", "application": application, "window_start": hours, "calls": calls,
                "total_ms": np.round(calls * random.gamma(3, 4, len(hours)), 3), "slow_calls": random.binomial(calls, 0.01)}))  # fmt: skip
    company.tables["uptime_checks"] = pd.concat(probes, ignore_index=True)
    company.tables["resource_samples"] = pd.concat(samples, ignore_index=True)
    company.tables["query_stats"] = pd.concat(statements, ignore_index=True)
    errors = max(count // 40, 20)
    company.tables["error_events"] = pd.DataFrame({
        "error_id": [f"er_{i:06d}" for i in range(errors)], "application": random.choice(apps, errors),
        "service": random.choice(np.array(["api", "web", "worker", None], dtype=object), errors),
        "level": random.choice(np.array(["info", "warning", "error", "fatal"], dtype=object), errors, p=[0.1, 0.3, 0.57, 0.03]),
        "fingerprint": [f"fp_{i}" for i in random.integers(0, 40, errors)], "is_user_facing": random.random(errors) < 0.4,
        "occurred_at": random_moments(errors),
    })  # fmt: skip
    loads = max(count // 4, 50)
    company.tables["web_vitals"] = pd.DataFrame({
        "vital_id": [f"wv_{i:07d}" for i in range(loads)], "application": random.choice(apps, loads),
        "page": random.choice(np.array(["/", "/search", "/pricing", None], dtype=object), loads),
        "device": random.choice(np.array(["desktop", "mobile", "tablet"], dtype=object), loads, p=[0.5, 0.42, 0.08]),
        "page_load_ms": np.round(random.lognormal(7.2, 0.45, loads), 1), "lcp_ms": np.round(random.lognormal(7.4, 0.4, loads), 1),
        "tti_ms": np.where(random.random(loads) < 0.9, np.round(random.lognormal(7.7, 0.4, loads), 1), np.nan),
        "lighthouse_score": np.where(random.random(loads) < 0.2, np.round(np.clip(random.normal(91, 5, loads), 0, 100)), np.nan),
        "accessibility_score": np.where(random.random(loads) < 0.2, np.round(np.clip(random.normal(94, 4, loads), 0, 100)), np.nan),
        "occurred_at": random_moments(loads),
    })  # fmt: skip
    tries = max(count // 12, 60)
    kind = random.choice(np.array(["call", "setup"], dtype=object), tries, p=[0.95, 0.05])
    company.tables["integration_calls"] = pd.DataFrame({
        "call_id": [f"ic_{i:06d}" for i in range(tries)], "application": random.choice(apps, tries),
        "integration": random.choice(np.array(INTEGRATIONS, dtype=object), tries), "kind": kind,
        "succeeded": random.random(tries) < np.where(kind == "setup", 0.9, 0.985), "occurred_at": random_moments(tries),
    })  # fmt: skip
    findings = max(int(seconds // 86400) * 2, 12)
    company.tables["security_events"] = pd.DataFrame({
        "security_event_id": [f"se_{i:05d}" for i in range(findings)], "application": random.choice(apps, findings),
        "kind": random.choice(np.array(["intrusion_attempt", "threat_detected", "other", "breach"], dtype=object), findings, p=[0.5, 0.3, 0.19, 0.01]),
        "severity": random.choice(np.array(["low", "medium", "high", "critical"], dtype=object), findings, p=[0.5, 0.35, 0.12, 0.03]),
        "occurred_at": random_moments(findings),
    })  # fmt: skip


def states(company: "Company") -> None:
    """What a status page logs of each application's gateway: changes of its state, and once that nobody was watching."""
    random = company.random("states")
    begin = max(company.start, company.end - timedelta(days=company.monitored_days))
    rows: list[TableRow] = []
    for application in company.applications:
        at = pd.Timestamp(begin) + timedelta(seconds=int(random.exponential(7200)))
        is_up: bool | None = True
        while at < company.end:
            rows.append(
                {"service": f"{application}_gateway", "application": application, "changed_at": at, "is_up": is_up}
            )
            hours = 30.0 if is_up else 0.4
            at += timedelta(seconds=int(random.exponential(hours * 3600)) + 30)
            is_up = None if is_up and random.random() < 0.1 else not is_up
    company.tables["service_states"] = _times(pd.DataFrame(rows), "changed_at")


def makers(company: "Company") -> None:
    """Deployments, incidents, work, reviews, code and the community, over the company's whole life."""
    random = company.random("makers")
    days = int((company.end - company.start).days)
    rows: dict[str, list[TableRow]] = {name: [] for name in ("deployments", "incidents", "work_items", "pull_requests", "code_quality",
                                                   "community_snapshots", "package_downloads", "ai_responses")}  # fmt: skip
    for application in company.applications:
        for _ in range(random.poisson(days * 0.5)):
            rows["deployments"].append(_deployment(random, company, application, days, len(rows["deployments"])))
        for _ in range(random.poisson(days * 0.12) + 2):
            rows["incidents"].append(_incident(random, company, application, days, len(rows["incidents"])))
        for _ in range(random.poisson(days * 0.9) + 5):
            rows["work_items"].append(_work_item(random, company, application, days, len(rows["work_items"])))
        for _ in range(random.poisson(days * 0.6) + 3):
            rows["pull_requests"].append(_pull_request(random, company, application, days, len(rows["pull_requests"])))
        for day in range(0, days, 7):
            on = (company.start + timedelta(days=day)).date()
            for component in ("all", "backend", "frontend"):
                rows["code_quality"].append({
                    "captured_on": on, "application": application, "component": component,
                    "test_coverage_percent": f"{min(99, 70 + day / 20 + random.normal(0, 1)):.2f}",
                    "duplication_percent": f"{abs(random.normal(4, 0.6)):.2f}", "technical_debt_percent": f"{abs(random.normal(9, 1)):.2f}",
                    "critical_vulnerabilities": int(random.random() < 0.06), "high_vulnerabilities": int(random.poisson(1.2)),
                })  # fmt: skip
    application = "wizard" if "wizard" in company.applications else company.applications[-1]
    growth = {"github_stars": 1.6, "github_forks": 0.3, "contributors": 0.1, "external_contributors": 0.06, "issues_opened": 0.7,
              "pull_requests_merged": 0.5, "community_members": 1.1, "posts_and_talks": 0.04, "media_mentions": 0.03}  # fmt: skip
    for measure, rate in growth.items():
        total = 0
        for day in range(days):
            total += int(random.poisson(rate))
            if day % 3 == 0:
                on = (company.start + timedelta(days=day)).date()
                rows["community_snapshots"].append(
                    {"captured_on": on, "application": application, "measure": measure, "value": total}
                )
    for package in PACKAGES:
        for day in range(days):
            on = (company.start + timedelta(days=day)).date()
            rows["package_downloads"].append({"downloaded_on": on, "application": application, "package": package,
                                              "downloads": int(random.poisson(20 + day / 4))})  # fmt: skip
    conversations = company.tables["conversations"]
    for row in conversations[random.random(len(conversations)) < 0.5].itertuples():
        judged = {name: (bool(random.random() < odds) if random.random() < 0.5 else None)
                  for name, odds in (("user_satisfied", 0.91), ("is_relevant", 0.88), ("is_accurate", 0.92), ("is_helpful", 0.89))}  # fmt: skip
        rows["ai_responses"].append({
            "ai_response_id": f"ai_{len(rows['ai_responses']):06d}", "conversation_id": row.conversation_id, "application": row.application,
            **judged, "confidence": f"{min(1.0, abs(random.normal(0.83, 0.1))):.4f}", "created_at": row.started_at + timedelta(seconds=20),
        })  # fmt: skip
    for name, table in rows.items():
        frame = pd.DataFrame(table)
        own = next(c for c in ("started_at", "created_at", "opened_at", "captured_on", "downloaded_on") if c in frame)
        if own.endswith("_at"):
            frame = frame[frame[own] < pd.Timestamp(company.end)]
        company.tables[name] = _times(frame, *(c for c in frame if c.endswith("_at")))


def changes(company: "Company") -> None:
    """The commits of the pull requests and those of none, and which of them the deployments name: some none, some one that nobody knows."""
    random = company.random("changes")
    requests, deployments = company.tables["pull_requests"], company.tables["deployments"]
    rows: list[TableRow] = []

    def commit(application: str, at: pd.Timestamp, pull_request: str | None) -> str:
        sha = f"{company.seed:04x}{len(rows):08x}"
        rows.append(
            {"commit_sha": sha, "application": application, "pull_request_id": pull_request, "author": f"dev{int(random.integers(12))}", "committed_at": at}
        )  # fmt: skip
        return sha

    merges: list[str | None] = []
    known: dict[str, list[tuple[pd.Timestamp, str]]] = {application: [] for application in company.applications}
    for request in requests.itertuples():
        # a request whose commits nobody landed now and then, and the commit on main where it was not squashed without a trace
        for _ in range(int(random.integers(0, 4))):
            commit(
                request.application,
                request.opened_at - timedelta(seconds=int(random.exponential(86400))),
                request.pull_request_id,
            )
        has_merge = request.merged_at is not pd.NaT and random.random() < 0.8
        merges.append(commit(request.application, request.merged_at, None) if has_merge else None)
        if has_merge:
            known[request.application].append((request.merged_at, rows[-1]["commit_sha"]))
    days = int((company.end - company.start).days)
    for application in company.applications:
        for _ in range(random.poisson(days * 0.3) + 2):
            at = _random_moment(random, company, days)
            known[application].append((at, commit(application, at, None)))
        known[application].sort()
    named: list[str | None] = []
    for deployment in deployments.itertuples():
        earlier = [sha for at, sha in known[deployment.application] if at <= deployment.started_at]
        # most deploy the newest, some an older one
        back, kind = 1 + int(random.exponential(0.7)), random.random()
        named.append(
            earlier[-back] if kind < 0.7 and len(earlier) >= back else f"unknown{len(named)}" if kind > 0.85 else None
        )
    requests["merge_commit_sha"], deployments["commit_sha"] = merges, named
    table = pd.DataFrame(rows)
    company.tables["commits"] = _times(table[table.committed_at < pd.Timestamp(company.end)], "committed_at")


def _random_moment(random: Random, company: "Company", days: int) -> pd.Timestamp:
    return pd.Timestamp(company.start) + timedelta(seconds=int(random.random() * days * 86400))


def _deployment(random: Random, company: "Company", application: str, days: int, number: int) -> TableRow:
    started = _random_moment(random, company, days)
    status = str(random.choice(["succeeded", "failed", "rolled_back", "running"], p=[0.94, 0.03, 0.02, 0.01]))
    recovered = (
        started + timedelta(seconds=int(random.exponential(1500)) + 60) if status in ("failed", "rolled_back") else None
    )
    return {"deployment_id": f"de_{number:06d}", "application": application, "service": "api", "started_at": started,
            "status": status, "recovered_at": recovered, "updated_at": recovered or started}  # fmt: skip


def _incident(random: Random, company: "Company", application: str, days: int, number: int) -> TableRow:
    started = _random_moment(random, company, days)
    acknowledged = started + timedelta(seconds=int(random.exponential(600)) + 20) if random.random() < 0.95 else None
    resolved = started + timedelta(seconds=int(random.exponential(9000)) + 900) if random.random() < 0.97 else None
    return {"incident_id": f"in_{number:06d}", "application": application,
            "severity": str(random.choice(["sev1", "sev2", "sev3", "sev4"], p=[0.05, 0.2, 0.4, 0.35])), "started_at": started,
            "acknowledged_at": acknowledged, "resolved_at": resolved,
            "updated_at": max(t for t in (started, acknowledged, resolved) if t is not None)}  # fmt: skip


def _work_item(random: Random, company: "Company", application: str, days: int, number: int) -> TableRow:
    created = _random_moment(random, company, days)
    kind = str(random.choice(["story", "feature", "bug", "task"], p=[0.4, 0.15, 0.3, 0.15]))
    completed = (
        created + timedelta(seconds=int(random.exponential(6 * 86400)) + 1800) if random.random() < 0.85 else None
    )
    sprint = int((created - pd.Timestamp(company.start)).days // 14)
    ends = (company.start + timedelta(days=14 * (sprint + 1) - 1)).date()
    due_at = created + timedelta(days=12) if kind == "feature" else None
    return {"work_item_id": f"wi_{number:06d}", "application": application, "kind": kind,
            "priority": str(random.choice(["critical", "high", "medium", "low"], p=[0.08, 0.22, 0.4, 0.3])),
            "story_points": int(random.choice([1, 2, 3, 5, 8])) if kind != "task" else None,
            "sprint": f"sprint {sprint + 1}" if kind in ("story", "feature") else None,
            "sprint_ends_on": ends if kind in ("story", "feature") else None, "created_at": created, "due_at": due_at,
            "completed_at": completed, "updated_at": completed or created}  # fmt: skip


def _pull_request(random: Random, company: "Company", application: str, days: int, number: int) -> TableRow:
    opened = _random_moment(random, company, days)
    reviewed = opened + timedelta(seconds=int(random.exponential(9 * 3600))) if random.random() < 0.95 else None
    merged = (
        reviewed + timedelta(seconds=int(random.exponential(20 * 3600))) if reviewed and random.random() < 0.9 else None
    )
    return {"pull_request_id": f"pr_{number:06d}", "application": application, "author": f"dev{int(random.integers(12))}",
            "author_is_external": bool(random.random() < 0.2), "opened_at": opened, "first_review_at": reviewed,
            "review_cycles": int(1 + random.poisson(0.6)) if reviewed else None, "merged_at": merged,
            "updated_at": merged or reviewed or opened}  # fmt: skip


def _times(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    table = table.reset_index(drop=True)
    for column in columns:
        table[column] = pd.to_datetime(table[column], utc=True).dt.as_unit("us")
    return table
