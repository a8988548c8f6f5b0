"""Make a report: its sections' numbers with their changes, why they changed, what is off target, what was restated since the last one.

Everything is read from the published marts as `bi_reader`, and names the version that it was read from.
"""

import base64
import io
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import NotRequired, TypedDict

import jinja2

from northstar.base.clock import GRAINS, LENGTHS, show_utc
from northstar.base.config_files import read_own_yaml, read_text
from northstar.base.errors import NorthstarError
from northstar.base.formats import compute_change, format_change, format_count, format_value
from northstar.base.locales import choose_locale, write_number, written_in
from northstar.base.settings import Settings
from northstar.build.own_seeds import own_funnels
from northstar.use.changes import Point, describe_change
from northstar.use.marts import Marts, Metric, nearest
from northstar.use.words import ZONES, describe_chance, describe_marks, period, restatement_reasons, title_of

HERE = Path(__file__).parent
# the most points of a small chart, rows that explain a change, and rows of the list of restatements
POINTS, CONTRIBUTORS, RESTATEMENTS = 13, 3, 40


@dataclass
class Report:
    """A report: the parts of its mail, and what it was made from. images: png by content id, which the html refers to."""

    name: str
    application: str
    as_of: datetime
    period_start: datetime
    version: int
    subject: str
    html: str
    text: str
    images: dict[str, bytes] = field(default_factory=dict, repr=False)
    # of readers.yml; None: who sees everything
    role: str | None = None

    def standalone(self) -> str:
        """The html with its images inside, for a browser."""
        page = self.html
        for name, image in self.images.items():
            page = page.replace(f"cid:{name}", "data:image/png;base64," + base64.b64encode(image).decode())
        return page


class SectionContent(TypedDict):
    """A section of contents.yml; that file says what each key means."""

    title: str
    audience: str
    application: NotRequired[str]
    metrics: NotRequired[list[str]]
    levels: NotRequired[list[int]]
    funnels: NotRequired[list[str]]
    targets: NotRequired[bool | str]
    catalogue: NotRequired[bool]
    milestones: NotRequired[str]
    note: NotRequired[str]


class ReportContent(TypedDict):
    """A report of contents.yml."""

    title: str
    grain: str
    sections: list[SectionContent]


class MetricLine(TypedDict):
    """A metric in a report, in words."""

    metric: str
    title: str
    value: str
    previous: str
    change: str
    # None where nothing changed
    is_better: bool | None
    period: str
    reason: str
    why: list[str]
    # the content id of its chart
    image: str | None
    definition: str
    of: str


class Stage(TypedDict):
    """A stage of a funnel, in words."""

    stage: str
    visitors: str
    share: str
    target: str


class Funnel(TypedDict):
    """A funnel."""

    title: str
    stages: list[Stage]


class TargetLine(TypedDict):
    """A target that is missed, in words."""

    title: str
    application: str
    value: str
    target: str
    zone: str
    is_red: bool
    action: str


class ReportSection(TypedDict):
    """A section as the templates show it."""

    title: str
    audience: str
    rows: list[MetricLine]
    note: str | None
    # titles of the metrics that no source measures; the text is empty where there are none
    unmeasured: str
    is_long: bool
    funnels: list[Funnel]
    targets: list[TargetLine] | None
    catalogue: list[str]
    milestones: list[str]


class ReportPoint(Point):
    """A metric's value in a period, with why there is none."""

    null_reason: str | None


@cache
def contents() -> dict[str, ReportContent]:
    """The reports of contents.yml by name."""
    entries: dict[str, ReportContent] = read_own_yaml(HERE / "contents.yml")
    return entries


def make_report(
    settings: Settings,
    name: str,
    as_of: datetime | None = None,
    application: str = "all",
    since_version: int | None = None,
    role: str | None = None,
) -> Report:
    """The report of the last period that was over at `as_of` (default: the newest version's own).

    role: of readers.yml, whose part of the numbers the report has; None: everything. since_version: the version that the previous report was made from; the report has the restatements after it. Raises NorthstarError for
    an unknown report, and before the first publication.
    """
    if name not in contents():
        raise NorthstarError(f"no report {name!r}; there are {', '.join(contents())}")
    if role is not None and role not in settings.readers.roles:
        raise NorthstarError(
            f"there is no role {role[:40]!r} in readers.yml; there are {', '.join(settings.readers.roles) or 'none'}"
        )
    marts = Marts(settings, role)
    with written_in(choose_locale([], settings.operations.locale)):
        return marts.steadily(lambda: _Maker(marts, name, as_of, application, since_version).report())


class _Maker:
    def __init__(self, marts: Marts, name: str, as_of: datetime | None, application: str, since_version: int | None):
        self.settings, self.name, self.application, self.since_version = (
            marts.settings,
            name,
            application,
            since_version,
        )
        self.marts = marts
        published = self.marts.published()
        if published is None:
            raise NorthstarError("nothing is published yet; `northstar run` publishes the first version")
        self.published, self.as_of = published, as_of or published.as_of
        if application not in self.marts.applications():
            raise NorthstarError(f"no application {application!r}; there are {', '.join(self.marts.applications())}")
        self.content = contents()[name]
        self.currency, self.calendar = self.marts.currency, self.settings.rules.calendar
        self.images: dict[str, bytes] = {}

    def report(self) -> Report:
        start, end = self.calendar.last_period(self.content["grain"], self.as_of)
        sections = [self._section(section) for section in self.content["sections"]]
        when = period(start, self.content["grain"], self.calendar)
        suffix = "" if self.application == "all" else f" of {self.application}"
        headlines = [row for section in sections for row in section["rows"] if row["is_better"] is not None][:3]
        subject = (
            f"{self.content['title']}{suffix}, {when}"
            + (": " if headlines else "")
            + ", ".join(f"{r['title']} {r['change']}" for r in headlines)
        )
        template_values = {
            "title": f"{self.content['title']}{suffix}", "when": when, "sections": sections, "version": self.published.version,
            "published_at": show_utc(self.published.published_at), "as_of": show_utc(self.published.as_of),
            "warnings": self.published.warnings, "late": self.marts.broken_promises(datetime.now(UTC)), "restatements": self._restatements(),
            "marks": describe_marks(self.marts.marks([], self.application, start, end)), "since_version": self.since_version,
        }  # fmt: skip
        templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE),
            autoescape=jinja2.select_autoescape(["html"]),
            trim_blocks=True,
            lstrip_blocks=True,
        )
        return Report(
            self.name, self.application, self.as_of, start, self.published.version, subject, templates.get_template("report.html").render(template_values),
            templates.get_template("report.txt").render(template_values), self.images, self.marts.role,
        )  # fmt: skip

    def _section(self, section: SectionContent) -> ReportSection:
        application = section.get("application", self.application)
        catalogue = self.marts.catalogue()
        metrics = section.get("metrics") or [
            m for m, entry in catalogue.items() if int(entry["level"]) in section.get("levels", [])
        ]
        is_long = "metrics" not in section
        lacking = self.marts.lacking(application)
        rows = [
            self._row(metric, application, not is_long)
            for metric in metrics
            if metric in catalogue and metric not in lacking
        ]
        unmeasured = [title_of(m) for m in metrics if m in lacking] if not is_long else []
        if is_long:
            # an application that never had a value of a metric needs no line for it
            rows = [row for row in rows if row["value"] != "-"]
        return {
            "title": section["title"], "audience": section["audience"], "rows": rows, "note": self._note(section), "is_long": is_long,
            "unmeasured": ", ".join(unmeasured),
            "funnels": [self._funnel(funnel, application) for funnel in self._funnel_names(section)],
            "targets": self._targets(application, section["targets"]) if "targets" in section else None,
            "catalogue": self._catalogue(application) if "catalogue" in section else [],
            "milestones": self._milestones(section["milestones"], application) if "milestones" in section else [],
        }  # fmt: skip

    def _row(self, metric: str, application: str, is_drawn: bool) -> MetricLine:
        entry = self.marts.catalogue()[metric]
        # a metric that is only counted by day is shown by day in a monthly report
        grain = nearest(self.content["grain"], entry["grains"])
        points = self._points(metric, grain, application)
        newest, previous = (points[-1] if points else None), (points[-2] if len(points) > 1 else None)
        value = newest and newest["value"]
        earlier = previous and previous["value"]
        difference = compute_change(value, earlier, entry["unit"])
        row: MetricLine = {
            "metric": metric, "title": title_of(metric), "value": format_value(value, entry["unit"], self.currency),
            "previous": format_value(earlier, entry["unit"], self.currency), "change": format_change(value, earlier, entry["unit"]),
            "is_better": None if not difference else (difference > 0) == (entry["direction"] == "up"), "period": period(newest["period_start"], grain, self.calendar) if newest else "",
            "reason": ((newest["null_reason"] or "") if newest else "no values").replace("_", " "), "why": [], "image": None,
            "definition": entry["definition"], "of": _describe_counts(entry, newest),
        }  # fmt: skip
        if is_drawn and len(points) > 2:
            image = f"{metric}-{application}"
            row["image"] = image
            self.images.setdefault(image, _chart([p["value"] for p in points], f"{row['title']}"))
        if is_drawn and difference and newest and previous:
            row["why"] = describe_change(self.marts, entry, grain, application, newest, previous, self.currency)[
                :CONTRIBUTORS
            ]
        return row

    def _points(self, metric: str, grain: str, application: str) -> list[ReportPoint]:
        frame = self.marts.frame(
            "select * from (select period_start, value, numerator, denominator, null_reason from metric_values where metric_id = %(metric)s and grain = %(grain)s "
            "and application = %(application)s and segment = '' and is_complete and period_start + %(length)s::interval <= %(as_of)s "
            "order by period_start desc limit %(points)s) as newest order by period_start",
            metric=metric, grain=grain, application=application, length=LENGTHS[grain], as_of=self.as_of, points=POINTS,
        )  # fmt: skip
        points: list[ReportPoint] = frame.to_dict("records")
        return points

    def _funnel_names(self, section: SectionContent) -> list[str]:
        """The funnels of a section; the home's own, if it has any of its own, take the place of the release's."""
        names = section.get("funnels", [])
        own_names = own_funnels(self.settings) if names else None
        return names if own_names is None else own_names

    def _funnel(self, funnel: str, application: str) -> Funnel:
        grain = nearest(min(self.content["grain"], "month", key=GRAINS.index), ["day", "week", "month"])
        frame = self.marts.frame(
            "with newest as (select max(period_start) as period_start from funnel_stages where funnel = %(funnel)s and grain = %(grain)s and is_complete "
            "and period_start + %(length)s::interval <= %(as_of)s) select stage, sum(visitors)::bigint as visitors, min(target_percent) as target "
            "from funnel_stages join newest using (period_start) where funnel = %(funnel)s and grain = %(grain)s "
            "and (application = %(application)s or %(application)s = 'all') group by stage_number, stage order by stage_number",
            funnel=funnel, grain=grain, application=application, length=LENGTHS[grain], as_of=self.as_of,
        )  # fmt: skip
        stages: list[Stage] = []
        last: int | None = None
        for row in frame.to_dict("records"):
            if row["visitors"] is None:
                # no event of the stage, or of one before it, was landed: nobody knows who came
                stages.append(
                    {"stage": row["stage"].replace("_", " "), "visitors": "not measured", "share": "", "target": ""}
                )
                continue
            share = 100 * row["visitors"] / last if last else None
            stages.append({"stage": row["stage"].replace("_", " "), "visitors": format_count(row["visitors"]), "share": format_value(share, "percent") if share is not None else "",
                           "target": format_value(row["target"], "percent") if row["target"] is not None else ""})  # fmt: skip
            last = row["visitors"]
        return {"title": title_of(funnel), "stages": stages}

    def _targets(self, application: str, scope: bool | str) -> list[TargetLine]:
        """The missed targets, worst first. scope: True for all, 'report' for those of the report's own metrics."""
        frame = self.marts.targets(application)
        rows = [r for r in frame.to_dict("records") if r["zone"] in ("red", "yellow")] if len(frame) else []
        if scope == "report":
            own = {metric for section in self.content["sections"] for metric in section.get("metrics", [])}
            rows = [r for r in rows if r["metric_id"] in own]
        rows.sort(key=lambda r: (r["zone"] != "red", r["metric_id"], r["application"]))
        return [
            {"title": title_of(r["metric_id"]) + (f" ({r['segment_value']})" if r["segment_value"] else ""), "application": r["application"],
             "value": format_value(r["value"], r["unit"], self.currency), "target": f"{r['operator']} {format_value(r['target'], r['unit'], self.currency)}",
             "zone": ZONES[r["zone"]], "is_red": r["zone"] == "red", "action": r["action"] or ""}
            for r in rows
        ]  # fmt: skip

    def _milestones(self, metric: str, application: str) -> list[str]:
        frame = self.marts.targets(application)
        rows = (
            [r for r in frame.to_dict("records") if r["metric_id"] == metric and r["due_at"] is not None]
            if len(frame)
            else []
        )
        rows.sort(key=lambda r: (r["application"], r["due_at"]))
        expected = self.marts.expectations(metric)
        return [
            f"{r['application']}, due {r['due_at']:%Y-%m-%d}: {r['operator']} {format_value(r['target'], r['unit'], self.currency)}; "
            f"{format_value(r['value'], r['unit'], self.currency)}, {ZONES[r['zone']]}"
            + (f"; {chance} to be met" if (chance := describe_chance(expected.get(r["target_id"]))) else "")
            for r in rows
        ]  # fmt: skip

    def _catalogue(self, application: str) -> list[str]:
        """The state of the metrics themselves: how many have values, which have none, whose definition changed."""
        catalogue = self.marts.catalogue()
        frame = self.marts.frame(
            "select distinct metric_id from metric_values where application = %(application)s and segment = '' and value is not null",
            application=application,
        )
        valued = set(frame["metric_id"]) if len(frame) else set()
        # marts that an earlier release published lack the column reasons
        redefined = self.marts.frame(
            "select metric_id, count(*) as values from metric_restatements as r where coalesce(nullif(to_jsonb(r) -> 'reasons', 'null'), "
            "to_jsonb(reason)) ? 'definition' and application = %(application)s "
            "group by 1 order by 1", application=application,
        ).to_dict("records")  # fmt: skip
        without_values = sorted(set(catalogue) - valued)
        return [
            f"{len(valued)} of {len(catalogue)} metrics have values" + (f"; without any: {', '.join(map(title_of, without_values))}" if without_values else ""),
            "definitions that changed: " + (", ".join(f"{title_of(r['metric_id'])} ({r['values']:,} values restated)" for r in redefined) or "none"),
        ]  # fmt: skip

    def _note(self, section: SectionContent) -> str | None:
        # what people write of the whole company is not for who sees a part of it
        if "note" not in section or self.marts.role is not None:
            return None
        path = self.settings.config / "notes" / f"{section['note']}.md"
        return (
            read_text(path).strip()
            if path.exists()
            else f"Nobody has written {path.relative_to(self.settings.config)} in the home."
        )

    def _restatements(self) -> list[str] | None:
        if self.since_version is None:
            return None
        grains = [g for g in GRAINS if g != "hour"]
        frame = self.marts.frame(
            "select r.*, m.unit, t.rules ->> 'reporting_currency' as old_currency, count(*) over () as total "
            "from metric_restatements as r join metrics as m using (metric_id) left join certificates as t on r.old_version = t.published_version "
            "where r.new_version > %(since)s and r.application = %(application)s and r.segment = '' and r.grain = any(%(grains)s) "
            "and m.level in ('1', '2') order by m.level, r.metric_id, r.period_start desc limit %(limit)s",
            since=self.since_version, application=self.application, grains=grains, limit=RESTATEMENTS,
        )  # fmt: skip
        rows = frame.to_dict("records")
        lines = [
            f"{title_of(r['metric_id'])}, {period(r['period_start'], r['grain'], self.calendar)}: {format_value(r['old_value'], r['unit'], r['old_currency'] or self.currency)} became "
            f"{format_value(r['new_value'], r['unit'], self.currency)} ({restatement_reasons(r)}, version {r['new_version']})"
            for r in rows
        ]  # fmt: skip
        if rows and rows[0]["total"] > len(rows):
            lines.append(f"and {rows[0]['total'] - len(rows)} more; see metric_restatements")
        return lines


def _describe_counts(entry: Metric, point: Point | None) -> str:
    """The counts that a percentage is made from: '23 of 25'; '' where they are no counts."""
    part, whole = (point["numerator"], point["denominator"]) if point else (None, None)
    if entry["kind"] != "ratio" or entry["unit"] != "percent" or part is None or whole is None or part % 1 or whole % 1:
        return ""
    return f"{write_number(f'{part:.0f}')} of {write_number(f'{whole:.0f}')}"


def _chart(values: list[Decimal | None], title: str) -> bytes:
    """A small line of the values, png; gaps where there is none."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.2, 0.5), dpi=100)
    axes = figure.add_axes((0.02, 0.1, 0.96, 0.8))
    numbers = [float("nan") if v is None else float(v) for v in values]
    axes.plot(numbers, color="#2878d0", linewidth=1.6)
    axes.plot(len(numbers) - 1, numbers[-1], "o", color="#2878d0", markersize=4)
    axes.set_axis_off()
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Title": title, "Software": None})
    return image.getvalue()
