"""GitHub: pull requests with their reviews, commits, issues as work items, deployments, and community figures, from its REST API.

    system: github
    connection: github_main     # password: a token with read access; host: only for GitHub Enterprise (https://HOST/api/v3)
    options:
      repositories: {acme/suite: suite, acme/suite-docs: suite}   # the application of each repository, by its full name
      environments: [production]    # the environments whose deployments are read (default: all)
      kinds: {bug: bug, enhancement: feature, story: story}       # the kind of work item for each issue label or issue type; others: task
      members: [ada]            # log-ins that do not count as external, in addition to the organization's public members
      rollback_task: rollback   # the task of deployments that roll back the previous one to the same environment

A review cycle is a verdict that asked for changes, and the approval that ended it. Priority and story points are labels: `priority: high`,
`high`, `points: 3`, `sp-3`. An issue's milestone is its sprint, the milestone's due date the sprint's end and the issue's own. An
issue that was closed as not planned is not completed. A deployment's status is its last one other than `inactive`; a failed deployment
has recovered when the next one to its environment succeeded. Commits are those of merged pull requests, and those of the default
branch, with the pull request that brought each; their time is the committer's. Community figures are those of the moment when they are read, summed
over the application's repositories; people are counted once.
"""

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TypedDict

from northstar.base.errors import NorthstarError
from northstar.connections.find import Connection
from northstar.extract.sources.declared import ContractRow, Page, Source, State, Totals, check_options
from northstar.extract.sources.http import HttpClient, JsonObject, Parameters, Refused

STATE_BY_ENTRY = "repositories"
ENTITIES = ("pull_requests", "commits", "work_items", "deployments", "community_snapshots")
# pull requests and deployments have the commits that they became or brought
READING = 2
ADDRESS = "https://api.github.com"
API_VERSION = "2022-11-28"
OPTIONS = {"repositories", "environments", "kinds", "members", "rollback_task"}
# 5,000 requests an hour, and 30 searches a minute
PER_SECOND, SEARCHES_PER_SECOND = 10, 0.5
PAGE = 100
KINDS = {"bug": "bug", "enhancement": "feature", "feature": "feature", "story": "story"}
PRIORITY = re.compile(r"(?:^|[:/ -])(critical|high|medium|low)$")
POINTS = re.compile(r"^(?:story[ -]?points?|points?|sp|estimate)[:/ -]+(\d+(?:\.\d+)?)$")
INSIDERS = ("OWNER", "MEMBER", "COLLABORATOR")
VERDICTS = ("APPROVED", "CHANGES_REQUESTED")
STATUSES = {"success": "succeeded", "failure": "failed", "error": "failed"}
# what GitHub answers for a repository without commits, and for a commit that no branch has
EMPTY_REPOSITORY, GONE = 409, 404
# for so long a deployment's status may change, and a failed deployment may recover
OPEN_DAYS = 30


class Deployment(TypedDict):
    """A row of deployments."""

    deployment_id: str
    application: str
    service: str
    commit_sha: str
    started_at: str
    status: str
    recovered_at: str | None
    updated_at: str


def connect(source: Source, connection: Connection) -> "GitHub":
    """Some repositories of GitHub. Raises NorthstarError for options that are wrong or missing."""
    check_options(source, OPTIONS)
    if not source.options.get("repositories"):
        raise NorthstarError(f"source {source.name}: give `repositories`: the application of each, by its full name")
    headers = {
        "Authorization": f"Bearer {connection.secret()}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": API_VERSION,
    }
    address = connection.url(ADDRESS)
    return GitHub(
        source,
        HttpClient(address, headers, source.per_second or PER_SECOND),
        HttpClient(address, headers, SEARCHES_PER_SECOND),
    )


class CommitPlace(TypedDict, total=False):
    """From where the commits of a repository are read on: the last change of a pull request, and the last commit of the default branch."""

    changed_at: str | None
    head: str


# a time, of all entities but commits
Place = str | CommitPlace | None


class GitHub:
    """A connector of northstar.extract.sources.declared.Connector's shape."""

    def __init__(self, source: Source, http: HttpClient, search: HttpClient, clock: Callable[[], float] = time.time):
        self.source, self.http, self.search, self.clock = source, http, search, clock
        self.repositories: dict[str, str] = source.options["repositories"]

    def check(self) -> str:
        """Ask for each repository."""
        names = [self.http.get(f"repos/{name}")["full_name"] for name in self.repositories]
        return f"GitHub: may read {', '.join(self.source.entities)} of {', '.join(names)}"

    def read(self, entity: str, state: State | None) -> Iterator[Page]:
        """The rows that changed since the state, repository by repository. Reading can go on after each page."""
        if entity == "community_snapshots":
            yield from self._community()
            return
        places = dict((state or {}).get("repositories") or {})
        for name in self.repositories:
            for rows, place in self._read_repository(entity, name, places.get(name)):
                places[name] = place
                yield Page(rows, {"repositories": dict(places)})

    def totals(self, entity: str, state: State | None) -> Totals:
        """The number of issues or pull requests that GitHub's search finds, and of those that landed."""
        kind = {"pull_requests": "pr", "work_items": "issue"}.get(entity)
        if kind is None:
            return {}
        return {entity: (sum(self._count_matches(name, f"type:{kind}") for name in self.repositories), "count(*)")}

    def _read_repository(self, entity: str, name: str, place: Place) -> Iterator[tuple[list[ContractRow], Place]]:
        """The rows of one repository that changed since a place, page by page, each with the place from which to go on."""
        if entity == "commits":
            yield from self._commits(name, place if isinstance(place, dict) else {})
            return
        since = place if isinstance(place, str) else None
        if entity == "deployments":
            yield from self._deployments(name, since)
            return
        is_pull = entity == "pull_requests"
        make_row = self._pull_request if is_pull else self._work_item
        for issues, newest in self._changed_issues(name, since):
            yield [make_row(name, issue) for issue in issues if ("pull_request" in issue) == is_pull], newest

    # issues and pull requests are one list to GitHub

    def _changed_issues(self, name: str, since: str | None) -> Iterator[tuple[list[JsonObject], str | None]]:
        """The changed issues and pull requests, oldest change first, each page with the time from which to go on.

        Each request starts at the time of the last change received: by page number, a change in the meantime would shift the pages.
        """
        number = 1
        while True:
            parameters: Parameters = {
                "state": "all",
                "sort": "updated",
                "direction": "asc",
                "per_page": PAGE,
                "page": number,
            }
            issues = self.http.get(f"repos/{name}/issues", {**parameters, "since": since} if since else parameters)
            newest = max([issue["updated_at"] for issue in issues], default=since)
            yield issues, newest
            if len(issues) < PAGE:
                return
            # a full page of changes in one second: only then is the next page needed
            number = number + 1 if newest == since else 1
            since = newest

    def _pull_request(self, name: str, issue: JsonObject) -> ContractRow:
        author = (issue.get("user") or {}).get("login")
        reviews: list[JsonObject] = []
        for page in self.http.pages(f"repos/{name}/pulls/{issue['number']}/reviews", {"per_page": PAGE}):
            # a pending review is a draft, and an author's comments on their own code are no review
            reviews += [r for r in page if r.get("submitted_at") and (r.get("user") or {}).get("login") != author]
        reviews.sort(key=lambda r: r["submitted_at"])
        verdicts = [r["state"] for r in reviews if r["state"] in VERDICTS]
        cycles = verdicts.count("CHANGES_REQUESTED") + (verdicts[-1:] == ["APPROVED"])
        return {
            "pull_request_id": f"{name}#{issue['number']}", "application": self.repositories[name], "author": author,
            "author_is_external": issue.get("author_association") not in INSIDERS, "opened_at": issue["created_at"],
            "first_review_at": reviews[0]["submitted_at"] if reviews else None, "review_cycles": cycles,
            "merged_at": issue["pull_request"].get("merged_at"), "merge_commit_sha": self._merge_commit(name, issue),
            "updated_at": issue["updated_at"],
        }  # fmt: skip

    def _merge_commit(self, name: str, issue: JsonObject) -> str | None:
        """The commit that a merged pull request became; the listing does not have it."""
        if not issue["pull_request"].get("merged_at"):
            return None
        sha: str | None = self.http.get(f"repos/{name}/pulls/{issue['number']}").get("merge_commit_sha")
        return sha

    def _work_item(self, name: str, issue: JsonObject) -> ContractRow:
        kinds = {label.lower(): kind for label, kind in self.source.options.get("kinds", KINDS).items()}
        labels = [(label if isinstance(label, str) else label.get("name") or "").lower() for label in issue["labels"]]
        of_type = ((issue.get("type") or {}).get("name") or "").lower()
        milestone = issue.get("milestone") or {}
        due_on = milestone.get("due_on")
        is_done = issue.get("closed_at") and issue.get("state_reason") != "not_planned"
        return {
            "work_item_id": f"{name}#{issue['number']}", "application": self.repositories[name],
            "kind": next((kinds[label] for label in [of_type, *labels] if label in kinds), "task"),
            "priority": _first_match(PRIORITY, labels), "story_points": _first_match(POINTS, labels), "sprint": milestone.get("title"),
            "sprint_ends_on": due_on and due_on[:10], "created_at": issue["created_at"], "due_at": due_on,
            "completed_at": issue["closed_at"] if is_done else None, "updated_at": issue["updated_at"],
        }  # fmt: skip

    # commits

    def _commits(self, name: str, place: CommitPlace) -> Iterator[tuple[list[ContractRow], CommitPlace]]:
        """First the commits of pull requests that were merged, then those that the default branch has since the place.

        A squash or rebase makes new commits of a pull request's: only by those of its branch is known when the work began.
        """
        place = {**place}
        known: set[str] = set()
        for issues, newest in self._changed_issues(name, place.get("changed_at")):
            rows: list[ContractRow] = []
            for issue in issues:
                if (issue.get("pull_request") or {}).get("merged_at"):
                    rows += self._commits_of(name, issue["number"])
            known |= {str(row["commit_sha"]) for row in rows}
            place["changed_at"] = newest
            yield rows, {**place}
        head = self._head(name)
        if not head or head == place.get("head"):
            return
        for commits in self._branch_pages(name, place.get("head"), head):
            yield [self._branch_commit(name, commit) for commit in commits if commit["sha"] not in known], {**place}
        # the newest commit comes first, so the place moves when all of them have landed
        yield [], {**place, "head": head}

    def _head(self, name: str) -> str | None:
        """The default branch's last commit; None in a repository without commits."""
        try:
            commits = self.http.get(f"repos/{name}/commits", {"per_page": 1})
        except Refused as refusal:
            if refusal.status == EMPTY_REPOSITORY:
                return None
            raise
        return commits[0]["sha"] if commits else None

    def _commits_of(self, name: str, number: int) -> list[ContractRow]:
        """The commits of a pull request. GitHub lists the first 250."""
        return [
            self._commit(name, commit, f"{name}#{number}")
            for page in self.http.pages(f"repos/{name}/pulls/{number}/commits", {"per_page": PAGE})
            for commit in page
        ]

    def _branch_pages(self, name: str, since: str | None, head: str) -> Iterator[list[JsonObject]]:
        """The commits that a branch has at `head` and had not when `since` was its last one.

        Commits have their own times, which may be long before they come into the branch: times do not say which are new.
        """
        if since:
            try:
                for answer in self.http.pages(f"repos/{name}/compare/{since}...{head}", {"per_page": PAGE}):
                    yield answer["commits"]
                return
            except Refused as refusal:
                # the branch was rewritten, and the commit is gone
                if refusal.status != GONE:
                    raise
        yield from self.http.pages(f"repos/{name}/commits", {"sha": head, "per_page": PAGE})

    def _branch_commit(self, name: str, commit: JsonObject) -> ContractRow:
        """A commit of the default branch, with the merged pull request that brought it there, if one did."""
        pulls = self.http.get(f"repos/{name}/commits/{commit['sha']}/pulls", {"per_page": PAGE})
        merged = [pull for pull in pulls if pull.get("merged_at") and pull["base"]["repo"]["full_name"] == name]
        # of several, as of a release branch that was merged later, the first brought it
        first = min(merged, key=lambda pull: (pull["merged_at"], pull["number"]), default=None)
        return self._commit(name, commit, first and f"{name}#{first['number']}")

    def _commit(self, name: str, commit: JsonObject, pull_request_id: str | None) -> ContractRow:
        return {
            "commit_sha": commit["sha"], "application": self.repositories[name], "pull_request_id": pull_request_id,
            "author": (commit.get("author") or {}).get("login"), "committed_at": commit["commit"]["committer"]["date"],
        }  # fmt: skip

    # deployments

    def _deployments(self, name: str, since: str | None) -> Iterator[tuple[list[ContractRow], str | None]]:
        """Deployments since a month before the state. GitHub lists them by creation and does not say which of them changed."""
        oldest = _days_before(since, OPEN_DAYS) if since else ""
        deployments: dict[int, JsonObject] = {}
        for page in self.http.pages(f"repos/{name}/deployments", {"per_page": PAGE}):
            deployments.update({d["id"]: d for d in page if d["created_at"] >= oldest})
            if page and page[-1]["created_at"] < oldest:
                break
        environments = self.source.options.get("environments")
        changed_rows: dict[str, Deployment] = {}
        last: dict[str, Deployment] = {}
        failed: dict[str, list[Deployment]] = {}

        def record(row: Deployment) -> None:
            changed_rows[row["deployment_id"]] = row

        for deployment in sorted(deployments.values(), key=lambda d: (d["created_at"], d["id"])):
            environment = deployment["environment"]
            if environments and environment not in environments:
                continue
            row, succeeded_at = self._deployment(name, deployment)
            previous = last.get(environment)
            if previous and deployment.get("task") == self.source.options.get("rollback_task", "rollback"):
                previous["status"], previous["updated_at"] = (
                    "rolled_back",
                    max(previous["updated_at"], row["started_at"]),
                )
                record(previous)
                if previous not in failed.setdefault(environment, []):
                    failed[environment].append(previous)
            if row["status"] == "failed":
                failed.setdefault(environment, []).append(row)
            elif succeeded_at:
                for broken in failed.pop(environment, []):
                    broken["recovered_at"], broken["updated_at"] = succeeded_at, max(broken["updated_at"], succeeded_at)
                    record(broken)
            last[environment] = row
            record(row)
            since = max(since or "", row["started_at"])
            if len(changed_rows) >= PAGE:
                yield list(changed_rows.values()), since
                changed_rows.clear()
        yield list(changed_rows.values()), since

    def _deployment(self, name: str, deployment: JsonObject) -> tuple[Deployment, str | None]:
        statuses: list[JsonObject] = []
        for page in self.http.pages(f"repos/{name}/deployments/{deployment['id']}/statuses", {"per_page": PAGE}):
            statuses += page
        statuses.sort(key=lambda s: (s["created_at"], s["id"]))
        # inactive: a later deployment replaced it
        states = [s["state"] for s in statuses if s["state"] != "inactive"]
        row: Deployment = {
            "deployment_id": f"{name}/{deployment['id']}", "application": self.repositories[name],
            "service": f"{name}/{deployment['environment']}", "commit_sha": deployment["sha"], "started_at": deployment["created_at"],
            "status": STATUSES.get(states[-1], "running") if states else "running", "recovered_at": None,
            "updated_at": max([deployment["updated_at"], *(s["created_at"] for s in statuses)]),
        }  # fmt: skip
        return row, max([s["created_at"] for s in statuses if s["state"] == "success"], default=None)

    # the community

    def _community(self) -> Iterator[Page]:
        day = str(datetime.fromtimestamp(self.clock(), UTC).date())
        rows: list[ContractRow] = []
        for application in dict.fromkeys(self.repositories.values()):
            names = [name for name, belongs_to in self.repositories.items() if belongs_to == application]
            repositories = [self.http.get(f"repos/{name}") for name in names]
            people = {login for name in names for login in self._contributors(name)}
            counts = {
                "github_stars": sum(r["stargazers_count"] for r in repositories), "github_forks": sum(r["forks_count"] for r in repositories),
                "contributors": len(people), "external_contributors": len(people - self._insiders(names)),
                "issues_opened": sum(self._count_matches(name, "type:issue") for name in names),
                "pull_requests_merged": sum(self._count_matches(name, "type:pr is:merged") for name in names),
            }  # fmt: skip
            rows += [
                {"captured_on": day, "application": application, "measure": m, "value": n} for m, n in counts.items()
            ]
        yield Page(rows, {"captured_on": day})

    def _contributors(self, name: str) -> Iterator[str]:
        for page in self.http.pages(f"repos/{name}/contributors", {"per_page": PAGE}):
            yield from (person["login"] for person in page if person.get("login") and person.get("type") != "Bot")

    def _insiders(self, names: list[str]) -> set[str]:
        insiders = set(self.source.options.get("members") or [])
        for owner in {name.split("/")[0] for name in names}:
            try:
                for page in self.http.pages(f"orgs/{owner}/members", {"per_page": PAGE}):
                    insiders |= {person["login"] for person in page}
            except Refused:
                # the owner is a person, not an organization
                insiders.add(owner)
        return insiders

    def _count_matches(self, name: str, query_terms: str) -> int:
        count: int = self.search.get("search/issues", {"q": f"repo:{name} {query_terms}", "per_page": 1})["total_count"]
        return count


def _first_match(pattern: re.Pattern[str], labels: list[str]) -> str | None:
    return next((match[1] for label in labels if (match := pattern.search(label))), None)


def _days_before(moment: str, days: int) -> str:
    return f"{datetime.fromisoformat(moment) - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"
