"""Engineering: incidents, deployments, work items with their sprints, and pull requests."""

from collections import defaultdict
from datetime import datetime
from fractions import Fraction

from northstar.demo.books.ledger import BookRow, Ledger
from northstar.demo.books.times import DAY, seconds


def reckon(ledger: Ledger) -> None:
    """Times to acknowledge and to recover, deployments that succeed, bugs, features in time, velocity, reviews."""
    for row in ledger.rows["incidents"]:
        _incident(ledger, row)
    for row in ledger.rows["deployments"]:
        _deployment(ledger, row)
    for row in ledger.rows["work_items"]:
        _work_item(ledger, row)
    _sprints(ledger)
    for row in ledger.rows["pull_requests"]:
        _pull_request(ledger, row)
    _changes(ledger)
    ledger.reckon_percentile("bug_resolution_time", "change_lead_time", "failed_deployment_recovery_time")


def _incident(ledger: Ledger, row: BookRow) -> None:
    application, severity = row["application"], {"severity": row["severity"]}
    if row["resolved_at"]:
        hours = seconds(row["resolved_at"] - row["started_at"]) / 3600
        ledger.add("mttr", row["resolved_at"], application, hours, 1, severity)
    if row["acknowledged_at"]:
        minutes = seconds(row["acknowledged_at"] - row["started_at"]) / 60
        ledger.add("time_to_acknowledge", row["acknowledged_at"], application, minutes, 1, severity)


def _deployment(ledger: Ledger, row: BookRow) -> None:
    when, application = row["started_at"], row["application"]
    is_failed = row["status"] in ("failed", "rolled_back")
    if row["status"] != "running":
        ledger.add("deployment_success_rate", when, application, int(row["status"] == "succeeded"), 1)
        ledger.add("change_failure_rate", when, application, int(is_failed), 1)
        ledger.add("deployment_frequency", when, application, 1)
    if is_failed and row["recovered_at"]:
        span = seconds(row["recovered_at"] - when)
        ledger.add("deployment_recovery_time", when, application, span / 60, 1)
        ledger.measure("failed_deployment_recovery_time", row["recovered_at"], application, span / 3600)


def _changes(ledger: Ledger) -> None:
    """How long each change took from its first commit to the first deployment that has it."""
    reviewed = {p["application"] for p in ledger.rows["pull_requests"]}
    merged = {p["pull_request_id"]: p for p in ledger.rows["pull_requests"] if p["merged_at"]}
    request_of_merge = {
        (p["application"], p["merge_commit_sha"]): p["pull_request_id"]
        for p in merged.values()
        if p["merge_commit_sha"]
    }
    # (application, change): [when it began, when it was merged]; and which change a sha stands for
    changes: dict[tuple[str, str], list[datetime]] = {}
    change_of: dict[tuple[str, str], str] = dict(request_of_merge)
    merged_at = {(p["application"], name): p["merged_at"] for name, p in merged.items()}
    for commit in ledger.rows["commits"]:
        application, sha, at = commit["application"], commit["commit_sha"], commit["committed_at"]
        named = commit["pull_request_id"] if application in reviewed else None
        request = named or request_of_merge.get((application, sha))
        if request is None:
            changes[application, sha], merged_at[application, sha], change_of[application, sha] = [at, at], at, sha
        elif request in merged:
            began, end = changes.get((application, request), [at, merged[request]["merged_at"]])
            changes[application, request], change_of[application, sha] = [min(began, at, end), end], request
    deployments = sorted(
        (d for d in ledger.rows["deployments"] if d["status"] == "succeeded"),
        key=lambda d: (d["started_at"], d["deployment_id"]),
    )
    waiting, begun = dict(changes), set()
    for deployment in deployments:
        application, started = deployment["application"], deployment["started_at"]
        named = change_of.get((application, deployment["commit_sha"])) if deployment["commit_sha"] else None
        until = min(merged_at[application, named], started) if named else started
        for (owner, change), (began, merged_when) in list(waiting.items()):
            if owner != application or merged_when > until:
                continue
            del waiting[owner, change]
            # what lies before the first deployment may have been deployed unseen
            if application in begun or change == named:
                hours, links = seconds(started - began) / 3600, {"linked_by": "sha" if named else "time"}
                ledger.measure("change_lead_time", started, application, hours, links)
        begun.add(application)


def _work_item(ledger: Ledger, row: BookRow) -> None:
    done, application = row["completed_at"], row["application"]
    if row["kind"] == "bug" and done:
        hours = seconds(done - row["created_at"]) / 3600
        ledger.measure("bug_resolution_time", done, application, hours, {"priority": row["priority"]})
    if row["kind"] == "feature" and row["due_at"] and done:
        ledger.add("on_time_delivery_rate", done, application, int(done <= row["due_at"]), 1)


def _sprints(ledger: Ledger) -> None:
    """The story points that were completed in each sprint that is over."""
    sprints = defaultdict(list)
    for row in ledger.rows["work_items"]:
        if row["sprint"] and row["sprint_ends_on"]:
            sprints[row["application"], row["sprint"]].append(row)
    for (application, _), items in sprints.items():
        last_day = max(i["sprint_ends_on"] for i in items)
        over = ledger.midnight(last_day + DAY)
        if over <= ledger.as_of:
            done = [i for i in items if i["completed_at"] and i["completed_at"] < over]
            points = sum((Fraction(str(i["story_points"] or 0)) for i in done), Fraction(0))
            ledger.add("development_velocity", ledger.midnight(last_day), application, points, 1)


def _pull_request(ledger: Ledger, row: BookRow) -> None:
    is_quick = bool(row["first_review_at"] and row["first_review_at"] <= row["opened_at"] + DAY)
    ledger.add("code_review_within_24h_rate", row["opened_at"], row["application"], int(is_quick), 1)
    if row["merged_at"] and row["review_cycles"] is not None:
        ledger.add("review_cycles_per_pr", row["merged_at"], row["application"], int(row["review_cycles"]), 1)
