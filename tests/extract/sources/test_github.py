"""GitHub as a source, against answers in the shape of its published OpenAPI description."""

from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest

from northstar.extract.landing.source import land_source, source_states
from northstar.extract.sources import github
from northstar.extract.sources.declared import Source, open_source
from northstar.warehouse import db
from tests.support import empty, json_server, silent

NOW = datetime(2025, 3, 10, 12, tzinfo=UTC).timestamp()
ADA, EVE, BOT = ({"login": "ada", "type": "User"}, {"login": "eve", "type": "User"}, {"login": "robot", "type": "Bot"})


def moment(text: str) -> str:
    return f"2025-03-{text}:00Z"


def issue(number: int, updated: str, *labels, **given) -> dict:
    return {
        "number": number, "user": ADA, "author_association": "MEMBER", "created_at": moment("01T09:00"), "updated_at": moment(updated),
        "closed_at": None, "state_reason": None, "labels": [{"name": name} for name in labels], "milestone": None, **given,
    }  # fmt: skip


def pull(number: int, updated: str, merged: str | None = None, **given) -> dict:
    return issue(number, updated, pull_request={"merged_at": merged and moment(merged)}, **given)


def review(user: dict, state: str, at: str | None) -> dict:
    return {"user": user, "state": state, "submitted_at": at and moment(at)}


def deployment(number: int, at: str, *statuses, environment="production", task="deploy") -> dict:
    told = [{"id": n, "state": s, "created_at": moment(t)} for n, (s, t) in enumerate(statuses)]
    return {
        "id": number,
        "environment": environment,
        "task": task,
        "sha": f"d{number}",
        "created_at": moment(at),
        "updated_at": moment(at),
        "told": told,
    }


def commit(sha: str, at: str, author: dict | None = ADA) -> dict:
    # written long before it was committed, as after a rebase
    return {
        "sha": sha,
        "author": author,
        "commit": {"author": {"date": "2024-01-01T00:00:00Z"}, "committer": {"date": moment(at)}},
    }


class Hub:
    """A server with one repository; listings come in pages of two."""

    size = 2

    def __init__(self, issues=(), reviews=None, deployments=(), branch=(), commits_of=None, brought_by=None):
        """branch: the default branch's commits, oldest first; commits_of: those of each pull request; brought_by: {commit: [(pull request, merged, repository)]}."""
        self.issues, self.reviews, self.deployments, self.asked = list(issues), reviews or {}, list(deployments), []
        self.branch, self.commits_of, self.brought_by = list(branch), commits_of or {}, brought_by or {}

    def __call__(self, path, query):
        path = path.strip("/").removeprefix("http/").removeprefix("repos/acme/shop").strip("/")
        self.asked.append((path, query))
        if path == "":
            return {"full_name": "acme/shop", "stargazers_count": 40, "forks_count": 4}
        if path == "search/issues":
            kind = query["q"].split("type:")[1]
            found = [i for i in self.issues if ("pull_request" in i) == kind.startswith("pr")]
            merged = [i for i in found if (i.get("pull_request") or {}).get("merged_at")]
            return {"total_count": len(merged if "merged" in kind else found)}
        if path == "issues":
            found = sorted(
                (i for i in self.issues if i["updated_at"] >= query.get("since", "")), key=lambda i: i["updated_at"]
            )
            start = (int(query["page"]) - 1) * self.size
            return found[start : start + self.size]
        if path == "contributors":
            return self.page(path, query, [ADA, EVE, BOT, {"type": "Anonymous", "name": "x"}])
        if path == "orgs/acme/members":
            return [ADA]
        if path.endswith("/reviews"):
            return self.page(path, query, self.reviews.get(int(path.split("/")[1]), []))
        if path == "commits":
            if not self.branch:
                return 409, {"message": "Git Repository is empty."}
            shas = [c["sha"] for c in self.branch]
            until = shas.index(query["sha"]) + 1 if "sha" in query else len(shas)
            size = int(query["per_page"])
            return self.page(path, query, self.branch[:until][::-1], size)
        if path.startswith("compare/"):
            base, head = path.removeprefix("compare/").split("...")
            shas = [c["sha"] for c in self.branch]
            if base not in shas:
                return 404, {"message": "Not Found"}
            status, rows, headers = self.page(path, query, self.branch[shas.index(base) + 1 : shas.index(head) + 1])
            return status, {"commits": rows}, headers
        if path.startswith("commits/") and path.endswith("/pulls"):
            return [
                {"number": n, "merged_at": merged and moment(merged), "base": {"repo": {"full_name": repository}}}
                for n, merged, repository in self.brought_by.get(path.split("/")[1], [])
            ]
        if path.startswith("pulls/") and path.endswith("/commits"):
            return self.page(path, query, self.commits_of.get(int(path.split("/")[1]), []))
        if path.startswith("pulls/") and path.count("/") == 1:
            return {"merge_commit_sha": f"m{path.split('/')[1]}"}
        if path == "deployments":
            return self.page(path, query, sorted(self.deployments, key=lambda d: d["created_at"], reverse=True))
        if path.endswith("/statuses"):
            number = int(path.split("/")[1])
            return next(d["told"] for d in self.deployments if d["id"] == number)
        return 404, {"message": "Not Found"}

    def page(self, path, query, rows, size=None):
        size = size or self.size
        start = int(query.get("page", 1)) - 1
        address = f"{self.address}/repos/acme/shop/{path}?{urlencode({**query, 'page': start + 2})}"
        more = len(rows) > (start + 1) * size
        return 200, rows[start * size : (start + 1) * size], {"Link": f'<{address}>; rel="next"'} if more else {}


@pytest.fixture
def land(warehouse, monkeypatch):
    """A function that lands an entity from a Hub, and returns the rows that stand then."""
    empty(warehouse)
    monkeypatch.setattr(github, "PAGE", Hub.size)
    monkeypatch.setattr(github, "SEARCHES_PER_SECOND", None)
    monkeypatch.setattr(github.GitHub.__init__, "__defaults__", (lambda: NOW,))

    def landing(hub, entity, columns, **options):
        with json_server(hub) as address:
            hub.address = address
            monkeypatch.setenv("AIRFLOW_CONN_GITHUB", address.replace("http://", "http://:token@") + "/http")
            source = Source(
                "hub", "github", "github", (entity,), options={"repositories": {"acme/shop": "shop"}, **options}
            )
            assert open_source(warehouse, source).check() == f"GitHub: may read {entity} of acme/shop"
            result = land_source(warehouse, None, source, silent)
            totals = open_source(warehouse, source).totals(entity, None)
        assert result.error is None, result.error
        with db.connect(warehouse, "loader") as connection:
            rows = [tuple(r.values()) for r in connection.execute(f"select {columns} from staging.{entity} order by 1")]
            for told, expression in totals.values():
                assert connection.execute(f"select {expression} as n from staging.{entity}").fetchone()["n"] == told
        return rows

    return landing


def at(text: str) -> datetime:
    return datetime.fromisoformat(moment(text))


def test_pull_requests_with_their_reviews(warehouse, land):
    hub = Hub(
        [pull(1, "02T10:00", "02T10:00"), pull(2, "02T10:00", author_association="CONTRIBUTOR", user=EVE), pull(3, "03T10:00"),
         issue(4, "02T10:00"), issue(5, "02T10:00")],
        {1: [review(ADA, "COMMENTED", "01T09:30"), review(EVE, "CHANGES_REQUESTED", "01T10:00"), review(EVE, "PENDING", None),
             review(EVE, "CHANGES_REQUESTED", "01T12:00"), review(EVE, "APPROVED", "02T09:00")],
         2: [review(ADA, "COMMENTED", "01T11:00")]},
    )  # fmt: skip
    columns = "pull_request_id, author_is_external, first_review_at, review_cycles, merged_at, merge_commit_sha"
    assert land(hub, "pull_requests", columns) == [
        ("acme/shop#1", False, at("01T10:00"), 3, at("02T10:00"), "m1"), ("acme/shop#2", True, at("01T11:00"), 0, None, None),
        ("acme/shop#3", False, None, 0, None, None),
    ]  # fmt: skip
    assert source_states(warehouse, "hub")["pull_requests"] == {"repositories": {"acme/shop": moment("03T10:00")}}
    hub.asked.clear()
    hub.issues[2] = pull(3, "04T10:00", "04T10:00")
    assert land(hub, "pull_requests", columns)[2][4] == at("04T10:00")
    asked = [q.get("since") for path, q in hub.asked if path == "issues"]
    assert asked[0] == moment("03T10:00") and len([p for p, _ in hub.asked if p.endswith("/reviews")]) == 1


def test_issues_are_work_items_by_their_labels_and_milestones(warehouse, land):
    sprint = {"title": "Sprint 9", "due_on": moment("14T08:00")}
    done = {"closed_at": moment("04T10:00"), "state_reason": "completed"}
    hub = Hub([
        issue(1, "02T10:00", "Bug", "priority: high", "points: 3", milestone=sprint, **done), issue(2, "02T11:00", "wording"),
        issue(3, "02T12:00", "enhancement", "SP-0.5", closed_at=moment("05T10:00"), state_reason="not_planned"),
        issue(4, "02T12:00", type={"name": "Story"}), pull(5, "02T12:00"),
    ])  # fmt: skip
    columns = "work_item_id, kind, priority, story_points, sprint, sprint_ends_on::text, due_at, completed_at"
    assert land(hub, "work_items", columns) == [
        ("acme/shop#1", "bug", "high", 3, "Sprint 9", "2025-03-14", at("14T08:00"), at("04T10:00")),
        ("acme/shop#2", "task", None, None, None, None, None, None), ("acme/shop#3", "feature", None, 0.5, None, None, None, None),
        ("acme/shop#4", "story", None, None, None, None, None, None),
    ]  # fmt: skip


def test_deployments_with_their_recoveries(warehouse, land):
    hub = Hub(deployments=[
        deployment(1, "01T10:00", ("in_progress", "01T10:01"), ("success", "01T10:05"), ("inactive", "02T10:05")),
        deployment(2, "02T10:00", ("failure", "02T10:02")), deployment(3, "02T10:30", ("success", "02T10:40")),
        deployment(4, "03T10:00", ("success", "03T10:04")), deployment(5, "03T10:20", ("success", "03T10:25"), task="rollback"),
        deployment(6, "04T10:00", ("queued", "04T10:00")), deployment(7, "04T10:00", ("success", "04T10:01"), environment="preview"),
    ])  # fmt: skip
    columns = "deployment_id, status, recovered_at, updated_at, commit_sha"
    rows = land(hub, "deployments", columns, environments=["production"])
    assert rows == [
        ("acme/shop/1", "succeeded", None, at("02T10:05"), "d1"), ("acme/shop/2", "failed", at("02T10:40"), at("02T10:40"), "d2"),
        ("acme/shop/3", "succeeded", None, at("02T10:40"), "d3"), ("acme/shop/4", "rolled_back", at("03T10:25"), at("03T10:25"), "d4"),
        ("acme/shop/5", "succeeded", None, at("03T10:25"), "d5"), ("acme/shop/6", "running", None, at("04T10:00"), "d6"),
    ]  # fmt: skip
    hub.deployments[5] = deployment(6, "04T10:00", ("queued", "04T10:00"), ("error", "04T10:09"))
    assert land(hub, "deployments", columns, environments=["production"])[5][1] == "failed"


def test_commits_have_the_pull_request_that_brought_them(warehouse, land):
    hub = Hub(
        [pull(1, "02T10:00", "02T10:00"), pull(2, "02T11:00"), pull(3, "03T10:00", "03T10:00"), issue(4, "03T11:00")],
        # 1 was squashed, 3 was merged with its commits, and a merge commit
        branch=[commit("start", "01T08:00", None), commit("squashed", "02T10:00"), commit("c31", "01T12:00"), commit("c32", "03T09:00"), commit("merge", "03T10:00")],
        commits_of={1: [commit("c11", "01T10:00"), commit("c12", "01T11:00"), commit("c13", "02T09:00")], 2: [commit("c21", "02T08:00")],
                    3: [commit("c31", "01T12:00"), commit("c32", "03T09:00")]},
        brought_by={"squashed": [(9, "02T10:00", "eve/fork"), (1, "02T10:00", "acme/shop"), (7, "04T10:00", "acme/shop"), (8, None, "acme/shop")],
                    "merge": [(3, "03T10:00", "acme/shop")]},
    )  # fmt: skip
    columns = "commit_sha, pull_request_id, committed_at"
    rows = [
        ("c11", "acme/shop#1", at("01T10:00")), ("c12", "acme/shop#1", at("01T11:00")), ("c13", "acme/shop#1", at("02T09:00")),
        ("c31", "acme/shop#3", at("01T12:00")), ("c32", "acme/shop#3", at("03T09:00")), ("merge", "acme/shop#3", at("03T10:00")),
        ("squashed", "acme/shop#1", at("02T10:00")), ("start", None, at("01T08:00")),
    ]  # fmt: skip
    assert land(hub, "commits", columns) == rows
    assert source_states(warehouse, "hub")["commits"] == {
        "repositories": {"acme/shop": {"changed_at": moment("03T11:00"), "head": "merge"}}
    }
    hub.asked.clear()
    # pushed later with times before what was read, as from somebody's laptop
    hub.branch += [commit("late1", "01T09:00"), commit("late2", "01T09:30"), commit("late3", "04T09:00")]
    more = [
        (sha, None, at(when)) for sha, when in (("late1", "01T09:00"), ("late2", "01T09:30"), ("late3", "04T09:00"))
    ]
    assert land(hub, "commits", columns) == sorted([*rows, *more])
    assert [path for path, _ in hub.asked if path.startswith("commits/")] == [
        f"commits/late{n}/pulls" for n in (1, 2, 3)
    ]
    hub.asked.clear()
    assert land(hub, "commits", columns) == sorted([*rows, *more])
    assert not [path for path, _ in hub.asked if path.startswith(("commits/", "compare/"))]


def test_a_branch_that_was_rewritten_is_read_anew_and_an_empty_one_has_no_commits(warehouse, land):
    hub = Hub()
    assert land(hub, "commits", "commit_sha") == []
    hub.branch = [commit("a", "01T08:00"), commit("b", "01T09:00")]
    assert land(hub, "commits", "commit_sha") == [("a",), ("b",)]
    hub.branch = [commit("c", "01T08:00"), commit("d", "01T09:00"), commit("e", "01T10:00")]
    assert land(hub, "commits", "commit_sha") == [(sha,) for sha in "abcde"]
    assert source_states(warehouse, "hub")["commits"]["repositories"]["acme/shop"]["head"] == "e"


def test_the_community_is_counted_once(warehouse, land):
    hub = Hub([pull(1, "02T10:00", "02T10:00"), pull(2, "02T10:00"), issue(3, "02T10:00")])
    assert land(hub, "community_snapshots", "measure, value, captured_on::text, application") == [
        (measure, value, "2025-03-10", "shop")
        for measure, value in (("contributors", 2), ("external_contributors", 1), ("github_forks", 4), ("github_stars", 40),
                               ("issues_opened", 1), ("pull_requests_merged", 1))
    ]  # fmt: skip
    rows = land(hub, "community_snapshots", "measure, value", members=["eve"])
    assert ("external_contributors", 0) in rows
