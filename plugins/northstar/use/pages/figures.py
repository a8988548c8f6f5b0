"""How a panel looks: from the frames of `data` to Plotly figures and cards. One function for each kind of panel."""

import math
from datetime import UTC, datetime, timedelta
from html import unescape

import pandas as pd
import plotly.graph_objects as go
from dash import dcc, html

from northstar.base.escaping import plotly
from northstar.base.formats import SUFFIXES, change, shown, shown_change
from northstar.use.marts import Marts, nearest

# lines of more values are a tangle; the others stand in the marts
LINES, BARS, FLOWS = 8, 15, 24
BUDGET_DAYS = 30
# as many digits as tell ticks apart, and never an exponent
TICKS = ",.6~r"
# a period that has hardly begun tells nothing: three tickets in the month's first hours are no fall
BEGUN = 0.1
LENGTHS = {"hour": 1 / 24, "day": 1, "week": 7, "month": 30, "quarter": 91}
# apart from each other, and 3:1 against both themes
COLOURS = ("#2878d0", "#c2571a", "#0f8a6c", "#a04bb5", "#8f7a12", "#c8385a", "#4b7d8c", "#7a6ae0")
GOOD, BAD, SCARCE, TOTAL = "#16866a", "#c9382f", "#a97b00", "#4a6cb3"
HEIGHT, MARGIN, CAPTION = 320, 8, 26
ZONES = {"green": "on target", "yellow": "near its target", "red": "off its target", "unknown": "not judged"}
WORST = ("red", "yellow", "unknown", "green")
UPPER = (
    "mrr",
    "arr",
    "arpu",
    "ltv",
    "cac",
    "gmv",
    "nps",
    "csat",
    "dau",
    "wau",
    "mau",
    "lcp",
    "tti",
    "mttr",
    "api",
    "cpu",
    "ai",
)
MOVEMENTS = ("new", "reactivation", "expansion", "contraction", "churn", "fx")
PERIOD = {"hour": "%-d %b %H:00", "day": "%-d %b %Y", "week": "week of %-d %b %Y", "month": "%b %Y", "year": "%Y"}


def period(moment, grain: str) -> str:
    """A period by its first moment, in words."""
    if grain == "quarter":
        return f"Q{(moment.month - 1) // 3 + 1} {moment.year}"
    return f"{moment:{PERIOD[grain]}}"


def title_of(metric: str) -> str:
    """A metric's id as people read it."""
    words = " ".join(word.upper() if word in UPPER else word for word in metric.split("_"))
    return words[:1].upper() + words[1:]


class Painter:
    """Draws panels. Each method takes the panel's entry of pages.yml and what the reader chose.

    application: one of the applications, or 'all'. grain: hour to quarter. months: how far back, 0 for everything.
    segment: by whose values lines are split, '' for none.
    """

    def __init__(self, marts: Marts):
        self.marts = marts
        self.currency = marts.settings.rules["reporting_currency"]

    def draw(self, panel: dict, application: str, grain: str, months: int, segment: str) -> go.Figure:
        """The figure of a panel, drawn once for a version. What there is to say without seeing it stands in `layout.meta`."""
        key = ("figure", repr(panel), application, grain, months, segment)
        return self.marts.kept(key, lambda: self._figure(panel, application, grain, months, segment))

    def _figure(self, panel: dict, application: str, grain: str, months: int, segment: str) -> go.Figure:
        figure = getattr(self, f"_{panel['kind']}")(panel, application, grain, months, segment)
        figure.update_layout(
            height=panel.get("height", HEIGHT), margin={"l": MARGIN, "r": MARGIN, "t": figure.layout.margin.t or MARGIN, "b": MARGIN, "autoexpand": True}, hovermode=figure.layout.hovermode or "closest",
            legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": None}, showlegend=bool(figure.layout.showlegend), font={"size": 13},
            meta=unescape(figure.layout.meta or ""),
        )  # fmt: skip
        return figure

    # cards

    def cards(self, panel: dict, application: str, grain: str) -> html.Div:
        """A card for each metric: the newest complete value, its change, and what its target says of it."""
        key = ("cards", repr(panel), application, grain)
        return self.marts.kept(key, lambda: self._cards(panel, application, grain))

    def _cards(self, panel: dict, application: str, grain: str) -> html.Div:
        known, frame = self.marts.catalogue(), self.marts.newest(panel["metrics"], application, grain)
        targets = self.marts.targets(application)
        cards = []
        for metric in panel["metrics"]:
            if metric in known:
                rows = frame[frame["metric_id"] == metric].sort_values("place").to_dict("records") if len(frame) else []
                zone = self._zone(targets, metric, application, rows[0]["grain"] if rows else grain)
                cards.append(self._card(metric, known[metric], rows, zone))
        return html.Div(cards, className="northstar-cards", role="list", **{"aria-label": panel["title"]})

    def _card(self, metric: str, entry: dict, rows: list[dict], zone: tuple[str, str] | None) -> html.Div:
        newest = rows[0] if rows else {"value": None, "null_reason": None, "grain": None}
        before = rows[1]["value"] if len(rows) > 1 else None
        parts = [html.Div(title_of(metric), className="northstar-card-title", title=entry["definition"]),
                 html.Div(_small_unit(shown(newest["value"], entry["unit"], self.currency)), className="northstar-card-value")]  # fmt: skip
        moved = change(newest["value"], before, entry["unit"])
        if moved is None:
            kind, words = "flat", (newest["null_reason"] or "").replace("_", " ") if rows else "no values"
        elif round(moved, 1) == 0:
            kind, words = "flat", "→ unchanged"
        else:
            kind = "better" if (moved > 0) == (entry["direction"] == "up") else "worse"
            words = f"{'↑' if moved > 0 else '↓'} {shown_change(newest['value'], before, entry['unit'])}, {kind}"
        parts.append(html.Div(words, className=f"northstar-card-change northstar-{kind}"))
        foot = (
            [html.Span(period(newest["period_start"], newest["grain"]), className="northstar-card-period")]
            if rows
            else []
        )
        if zone:
            foot.append(html.Span(zone[1], className=f"northstar-zone northstar-zone-{zone[0]}"))
        parts.append(html.Div(foot, className="northstar-card-foot"))
        return html.Div(parts, className="northstar-card", role="listitem", **{"data-metric": metric})

    def _zone(self, targets: pd.DataFrame, metric: str, application: str, grain: str) -> tuple[str, str] | None:
        """The worst zone of a metric's targets, and in words: whose it is, and by which grain it is judged where the card shows another."""
        own = targets[(targets["metric_id"] == metric) & (targets["segment"] == "")] if len(targets) else targets
        if not len(own):
            return None
        worst = min(own.to_dict("records"), key=lambda t: WORST.index(t["zone"]))
        where = f": {worst['application']}" if application == "all" and worst["zone"] in ("red", "yellow") else ""
        by = f" by {worst['grain']}" if worst["grain"] != grain and worst["zone"] != "unknown" else ""
        return worst["zone"], f"{ZONES[worst['zone']]}{by}{where}"

    def _hover(self, unit: str, more: str = "") -> str:
        number = {"money": ",.2f", "count": ",.0f", "percent": ",.1f"}.get(unit, ",.2f")
        suffix = f" {self.currency}" if unit == "money" else SUFFIXES.get(unit, "")
        return f"%{{y:{number}}}{suffix}" + (f" {more}" if more else "")

    # charts over time

    def _line(self, panel, application, grain, months, segment) -> go.Figure:
        metrics, segment = list(panel["metrics"]), panel.get("segment", segment)
        frame = _labelled(
            self.marts.series(
                [*metrics, *([panel["share_of"]] if "share_of" in panel else [])], application, grain, months, segment
            ),
            "segment_value",
        )
        known = self.marts.catalogue()
        if "share_of" in panel and len(frame):
            frame = _share(frame, metrics[0], panel["share_of"])
        frame = frame[frame["value"].notna()] if len(frame) else frame
        if not len(frame):
            return nothing(f"no values for {application} in this period")
        unit = "percent" if "share_of" in panel else known[metrics[0]]["unit"]
        figure, told = go.Figure(), []
        for colour, (name, points) in zip(COLOURS, self._lines(frame, metrics), strict=False):
            is_over = points["is_complete"].astype(bool)
            complete, open_ = points[is_over], points[~is_over]
            open_ = open_[[self._has_begun(p, known) for p in open_.to_dict("records")]] if len(open_) else open_
            mode = "lines+markers" if len(complete) < 40 else "lines"
            figure.add_scatter(
                x=complete["period_start"], y=complete["value"].astype(float), name=name, mode=mode, hovertemplate=self._hover(unit), legendgroup=name,
                line={"color": colour},
            )  # fmt: skip
            if len(open_):
                # the period that is not over
                figure.add_scatter(
                    x=open_["period_start"], y=open_["value"].astype(float), name=f"{name}, so far", mode="markers", legendgroup=name, showlegend=False,
                    marker={"symbol": "circle-open", "size": 8, "color": colour}, hovertemplate=self._hover(unit, "so far"),
                )  # fmt: skip
            if len(complete):
                last = complete.iloc[-1]
                told.append(
                    f"{name} {shown(last['value'], unit, self.currency)} ({period(last['period_start'], last['grain'])})"
                )
        if len(metrics) == 1 and not segment and "share_of" not in panel:
            told += self._draw_forecast(figure, metrics[0], application, frame, unit)
        self._draw_targets(figure, panel, application, metrics, segment)
        moments = [pd.Timestamp(x) for trace in figure.data for x in trace.x]
        if len(set(moments)) == 1:
            # Plotly would draw a lone point on an axis of milliseconds
            figure.update_xaxes(range=[moments[0] - pd.Timedelta(days=20), moments[0] + pd.Timedelta(days=20)])
        figure.update_yaxes(
            ticksuffix=SUFFIXES.get(unit, ""),
            tickformat=TICKS,
            rangemode="tozero" if unit in ("count", "money") else "normal",
        )
        figure.update_layout(
            hovermode="x unified",
            showlegend=len({t.name for t in figure.data if t.showlegend is not False}) > 1,
            meta="; ".join(told),
        )
        return figure

    def _has_begun(self, point: dict, known: dict[str, dict]) -> bool:
        """Whether a period that is not over is worth a mark: what stands at its end may be looked at any time, what happens in it later."""
        elapsed = self.marts.as_of() - point["period_start"]
        return known[point["metric_id"]]["kind"] == "snapshot" or elapsed >= BEGUN * timedelta(
            days=LENGTHS[point["grain"]]
        )

    def _draw_forecast(
        self, figure: go.Figure, metric: str, application: str, frame: pd.DataFrame, unit: str
    ) -> list[str]:
        """What is expected, as a band that held 80 % of the trials; said in words."""
        expected = self.marts.forecasts(metric, application, frame["grain"].iloc[0])
        last = frame[frame["is_complete"].astype(bool)].tail(1)
        expected = (
            expected[expected["period_start"] > last["period_start"].iloc[0]].head(12)
            if len(expected) and len(last)
            else expected.head(0)
        )
        if not len(expected):
            return []
        x = [last["period_start"].iloc[0], *expected["period_start"]]
        now = float(last["value"].iloc[0])
        low, high, middle = ([now, *map(float, expected[column])] for column in ("low_80", "high_80", "value"))
        common = {"x": x, "mode": "lines", "legendgroup": "forecast", "hoverinfo": "skip"}
        figure.add_scatter(**common, y=high, line={"width": 0}, showlegend=False, name="forecast, high")
        figure.add_scatter(
            **common,
            y=low,
            line={"width": 0},
            fill="tonexty",
            fillcolor="rgba(120, 120, 140, 0.22)",
            showlegend=False,
            name="forecast, low",
        )
        figure.add_scatter(
            x=x, y=middle, mode="lines", line={"dash": "dot", "width": 1.5, "color": COLOURS[6]}, legendgroup="forecast", name="forecast (80 %)",
            hovertemplate=self._hover(unit, "expected"),
        )  # fmt: skip
        end = expected.iloc[-1]
        return [f"forecast {shown(end['value'], unit, self.currency)} ({period(end['period_start'], end['grain'])}), "
                f"80 %: {shown(end['low_80'], unit, self.currency)} to {shown(end['high_80'], unit, self.currency)}"]  # fmt: skip

    def _lines(self, frame: pd.DataFrame, metrics: list[str]):
        """(name, points) of each line: of one metric its segment's largest values, of several each one's total."""
        newest = (
            frame.sort_values("period_start")
            .groupby(["metric_id", "segment_value"], sort=False)["value"]
            .last()
            .astype(float)
        )
        for metric in metrics:
            if metric not in newest.index:
                continue
            values = list(newest[metric].sort_values(ascending=False).index[:LINES])
            for value in values:
                name = (value if len(metrics) == 1 else f"{title_of(metric)}, {value}") if value else title_of(metric)
                yield name, frame[(frame["metric_id"] == metric) & (frame["segment_value"] == value)]

    def _draw_targets(self, figure, panel, application, metrics, segment) -> None:
        if len(metrics) != 1 or segment or application == "all" or "share_of" in panel:
            return
        targets = self.marts.targets(application)
        own = (
            targets[(targets["metric_id"] == metrics[0]) & (targets["segment"] == "") & targets["target"].notna()]
            if len(targets)
            else targets
        )
        for target, operator in sorted({(float(t["target"]), t["operator"]) for t in own.to_dict("records")}):
            text = f"target {operator} {shown(target, own.iloc[0]['unit'], self.currency)}"
            figure.add_hline(
                y=target, line={"dash": "dot", "width": 1}, annotation={"text": text, "font": {"size": 11}}
            )

    def _bars(self, panel, application, grain, months, segment) -> go.Figure:
        metric = panel["metrics"][0]
        frame = _labelled(self.marts.by_segment(metric, application, grain, panel["segment"]), "segment_value")
        if not len(frame):
            return nothing(f"no values for {application}")
        unit = self.marts.catalogue()[metric]["unit"]
        if "headroom" in panel:
            frame = frame.assign(value=panel["headroom"] - frame["value"]).sort_values("value")
        rest = len(frame) - BARS
        frame = frame.head(BARS)
        texts = [shown(value, unit, self.currency) for value in frame["value"]]
        figure = go.Figure(go.Bar(
            x=frame["value"].astype(float), y=frame["segment_value"], orientation="h", text=texts, textposition="auto", hovertemplate="%{y}: %{text}<extra></extra>",
            marker={"color": COLOURS[0]},
        ))  # fmt: skip
        figure.update_yaxes(autorange="reversed", type="category", title=None)
        figure.update_xaxes(ticksuffix=SUFFIXES.get(unit, ""), tickformat=TICKS)
        # the theme hides all texts where one of them has to be smaller than usual
        figure.update_layout(uniformtext={"mode": False, "minsize": 0}, bargap=0.2)
        when = period(frame["period_start"].iloc[0], nearest(grain, self.marts.catalogue()[metric]["grains"]))
        told = ", ".join(f"{v} {t}" for v, t in zip(frame["segment_value"], texts, strict=True))
        figure.update_layout(meta=f"{when}: {told}" + (f" and {rest} more" if rest > 0 else ""))
        _caption(figure, when)
        return figure

    def _bridge(self, panel, application, grain, months, segment) -> go.Figure:
        """MRR from the beginning of the newest complete period to its end."""
        ends = self.marts.newest(["mrr"], application, nearest(grain, ["month", "quarter"]))
        if len(ends) < 1:
            return nothing(f"no MRR for {application}")
        ends = ends.sort_values("place").to_dict("records")
        start, kind = ends[0]["period_start"], ends[0]["grain"]
        moved = self.marts.frame(
            "select movement_type, sum(amount_exact) as amount from mrr_movements where movement_date >= %(start)s::date "
            "and movement_date < (%(start)s::timestamptz + %(length)s::interval)::date "
            "and (application = %(application)s or %(application)s = 'all') group by 1",
            start=start, length="3 months" if kind == "quarter" else "1 month", application=application,
        )  # fmt: skip
        amounts = dict(zip(moved["movement_type"], moved["amount"], strict=True)) if len(moved) else {}
        steps = [(name, float(amounts.get(name, 0))) for name in MOVEMENTS]
        closing = float(ends[0]["value"] or 0)
        opening = closing - sum(amount for _, amount in steps)
        names = ["opening", *(name for name, _ in steps), "closing"]
        values = [opening, *(amount for _, amount in steps), closing]
        texts = [shown(value, "money") for value in values]
        figure = go.Figure(go.Waterfall(
            x=[f"{n} {t}" for n, t in zip(names, texts, strict=True)], y=values, measure=["absolute", *["relative"] * len(steps), "total"], text=texts, textposition="none",
            hovertemplate="%{x}<extra></extra>", increasing={"marker": {"color": GOOD}}, decreasing={"marker": {"color": BAD}},
            totals={"marker": {"color": TOTAL}},
        ))  # fmt: skip
        levels = [opening + sum(values[1:n]) for n in range(1, len(values))]
        base = _axis_from(min(levels), max(levels))
        figure.update_yaxes(tickformat=",.0f", range=[base, max(levels) + 0.05 * (max(levels) - base)])
        figure.update_xaxes(tickangle=-35, tickfont={"size": 11})
        figure.update_layout(
            showlegend=False,
            meta=f"{period(start, kind)}: " + ", ".join(f"{n} {t}" for n, t in zip(names, texts, strict=True)),
        )
        _caption(figure, f"{period(start, kind)}, {self.currency}" + (f", axis from {base:,.0f}" if base else ""))
        return figure

    def _cohorts(self, panel, application, grain, months, segment) -> go.Figure:
        frame = self.marts.frame(
            "select cohort_month, months_since, cohort_size, retention_percent from cohort_retention where cohort_kind = %(kind)s "
            "and application = %(application)s and is_complete and retention_percent is not null and cohort_month >= %(since)s::date and months_since <= 24",
            kind=panel["cohort_kind"], application=application, since=self.marts.since(months),
        )  # fmt: skip
        if not len(frame):
            return nothing(f"no cohorts of {application}")
        table = frame.assign(retention_percent=frame["retention_percent"].astype(float)).pivot(
            index="cohort_month", columns="months_since", values="retention_percent"
        )
        sizes = frame.groupby("cohort_month")["cohort_size"].first()
        rows = [f"{month:%b %Y} ({sizes[month]:,})" for month in table.index]
        is_small = table.size <= 200
        figure = go.Figure(go.Heatmap(
            z=table.values, x=[f"+{n}" for n in table.columns], y=rows, zmin=0, zmax=100, colorscale="Blues", xgap=1, ygap=1, hoverongaps=False,
            text=[["" if v != v else f"{v:.0f}" for v in row] for row in table.values] if is_small else None, texttemplate="%{text}" if is_small else None,
            hovertemplate="%{y}, month %{x}: %{z:.1f} %<extra></extra>", colorbar={"ticksuffix": " %", "thickness": 10},
        ))  # fmt: skip
        figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
        figure.update_xaxes(side="top", type="category", showgrid=False)
        later = table[1].dropna() if 1 in table.columns else pd.Series(dtype=float)
        figure.update_layout(
            meta=f"{len(table)} cohorts"
            + (f"; after one month {later.mean():.1f} % of a cohort are left on average" if len(later) else "")
        )
        return figure

    def _funnel(self, panel, application, grain, months, segment) -> go.Figure:
        grain = nearest(grain, ["day", "week", "month"])
        # a visitor belongs to one application, so that those of all are their sum
        frame = self.marts.frame(
            "with newest as (select max(period_start) as period_start from funnel_stages where funnel = %(funnel)s and grain = %(grain)s "
            "and (application = %(application)s or %(application)s = 'all') and is_complete), "
            "stages as (select period_start, stage_number, stage, sum(visitors)::bigint as visitors, min(target_percent) as target_percent "
            "from funnel_stages join newest using (period_start) where funnel = %(funnel)s and grain = %(grain)s "
            "and (application = %(application)s or %(application)s = 'all') group by 1, 2, 3) "
            "select *, 100.0 * visitors / nullif(lag(visitors) over (order by stage_number), 0) as from_previous_percent from stages "
            "order by stage_number",
            funnel=panel["funnel"], grain=grain, application=application,
        )  # fmt: skip
        if not len(frame) or not frame["visitors"].max():
            return nothing(f"nobody of {application} in this funnel")
        texts = []
        for row in frame.to_dict("records"):
            text = f"{row['visitors']:,}"
            if pd.notna(row["from_previous_percent"]):
                target = f" (target {row['target_percent']:.0f} %)" if pd.notna(row["target_percent"]) else ""
                on = row["from_previous_percent"]
                text += f" · {on:.1f} % came here{target}, {100 - on:.1f} % dropped off"
            texts.append(text)
        stages = [stage.replace("_", " ") for stage in frame["stage"]]
        labels = _second_line(stages, [t.partition(" · ")[2] for t in texts])
        figure = go.Figure(go.Bar(
            y=labels, x=frame["visitors"], orientation="h", text=[f"{v:,}" for v in frame["visitors"]], textposition="auto", marker={"color": COLOURS[0]},
            hovertext=[f"{s}: {t}" for s, t in zip(stages, texts, strict=True)], hoverinfo="text",
        ))  # fmt: skip
        figure.update_yaxes(type="category", title=None, autorange="reversed")
        figure.update_xaxes(visible=False)
        when = period(frame["period_start"].iloc[0], grain)
        figure.update_layout(meta=f"{when}: " + "; ".join(f"{s} {t}" for s, t in zip(stages, texts, strict=True)))
        _caption(figure, when)
        return figure

    def _journey(self, panel, application, grain, months, segment) -> go.Figure:
        frame = self.marts.frame(
            "with chosen as (select * from user_paths where (application = %(application)s or %(application)s = 'all') and month = ("
            "select max(month) from user_paths where month < date_trunc('month', %(as_of)s::timestamptz)::date)) "
            "select from_event, to_event, month, sum(sessions)::bigint as sessions, "
            "100.0 * sum(sessions) / sum(sum(sessions)) over (partition by from_event) as share "
            "from chosen group by 1, 2, 3 order by sessions desc, from_event, to_event",
            application=application, as_of=self.marts.as_of(),
        )  # fmt: skip
        if not len(frame):
            return nothing(f"no journeys of {application}")
        frame = _labelled(frame.head(FLOWS), "from_event", "to_event")
        # left and right are different nodes: a session may come back to where it was
        left, right = list(dict.fromkeys(frame["from_event"])), list(dict.fromkeys(frame["to_event"]))
        figure = go.Figure(go.Sankey(
            node={"label": [*left, *right], "pad": 14, "thickness": 14, "color": COLOURS[0]},
            link={"source": [left.index(e) for e in frame["from_event"]], "target": [len(left) + right.index(e) for e in frame["to_event"]],
                  "value": frame["sessions"], "customdata": frame["share"].astype(float), "hovertemplate": "%{source.label} to %{target.label}: %{value:,} sessions, "
                  "%{customdata:.1f} % of those there<extra></extra>"},
        ))  # fmt: skip
        told = ", ".join(
            f"{r['from_event']} to {r['to_event']} {r['sessions']:,}" for r in frame.head(8).to_dict("records")
        )
        figure.update_layout(meta=f"{frame['month'].iloc[0]:%b %Y}, sessions: {told}")
        return figure

    def _experiments(self, panel, application, grain, months, segment) -> go.Figure:
        frame = self.marts.frame(
            "select * from experiment_results where application = %(application)s order by experiment, variant != control, variant",
            application=application,
        )
        if not len(frame):
            return nothing(f"no experiments of {application}")
        figure, told = go.Figure(), []
        for row in _labelled(frame, "experiment", "variant", "control").to_dict("records"):
            name = f"{row['experiment']}: {row['variant']}"
            if pd.isna(row["conversion_percent"]):
                continue
            value, low, high = (
                float(row[c]) for c in ("conversion_percent", "conversion_percent_low", "conversion_percent_high")
            )
            verdict = ""
            if pd.notna(row["p_value"]):
                verdict = f", {float(row['uplift_percent'] or 0):+.1f} % against {row['control']}, p = {float(row['p_value']):.3f}"
            text = f"{shown(value, 'percent')} of {row['exposed']:,}{verdict}"
            figure.add_scatter(
                x=[value], y=_second_line([name], [text]), mode="markers", text=[text], marker={"size": 10, "color": COLOURS[0]}, showlegend=False, cliponaxis=False,
                error_x={"type": "data", "symmetric": False, "array": [high - value], "arrayminus": [value - low]}, hovertemplate="%{y}: %{text}<extra></extra>",
            )  # fmt: skip
            told.append(f"{name} {text}")
        figure.update_yaxes(type="category", autorange="reversed", title=None)
        figure.update_xaxes(ticksuffix=" %", rangemode="tozero")
        figure.update_layout(meta="; ".join(told))
        return figure

    def _reasons(self, panel, application, grain, months, segment) -> go.Figure:
        frame = self.marts.frame(
            "select cancel_reason, sum(accounts)::bigint as accounts, sum(mrr) as mrr from churn_reasons where application = %(application)s "
            "and month >= %(since)s::date group by 1 order by accounts desc, 1", application=application, since=self.marts.since(months),
        )  # fmt: skip
        if not len(frame):
            return nothing(f"nobody left {application} in this period")
        frame = _labelled(frame, "cancel_reason")
        texts = [
            f"{a:,} · {shown(m, 'money', self.currency)} MRR"
            for a, m in zip(frame["accounts"], frame["mrr"], strict=True)
        ]
        figure = go.Figure(go.Bar(
            x=frame["accounts"], y=frame["cancel_reason"], orientation="h", text=texts, textposition="auto", hovertemplate="%{y}: %{text}<extra></extra>",
            marker={"color": COLOURS[0]},
        ))  # fmt: skip
        figure.update_yaxes(autorange="reversed", type="category", title=None)
        figure.update_layout(meta=", ".join(f"{r} {t}" for r, t in zip(frame["cancel_reason"], texts, strict=True)))
        return figure

    def _budgets(self, panel, application, grain, months, segment) -> go.Figure:
        """What is left of the errors that a target allows over the last complete days."""
        targets = self.marts.targets(application)
        own = (
            targets[
                targets["metric_id"].isin(panel["metrics"]) & (targets["segment"] == "") & targets["target"].notna()
            ]
            if len(targets)
            else targets
        )
        if not len(own):
            return nothing(f"no objectives of {application}")
        sums = self.marts.frame(
            "select metric_id, application, sum(numerator) as numerator, sum(denominator) as denominator from metric_values "
            "where metric_id = any(%(metrics)s) and grain = 'day' and segment = '' and is_complete and period_start >= %(since)s group by 1, 2",
            metrics=list(panel["metrics"]), since=self.marts.as_of().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=BUDGET_DAYS),
        )  # fmt: skip
        totals = {(r["metric_id"], r["application"]): r for r in sums.to_dict("records")} if len(sums) else {}
        names, left, texts = [], [], []
        for metric, app in dict.fromkeys(zip(own["metric_id"], own["application"], strict=True)):
            rows = own[(own["metric_id"] == metric) & (own["application"] == app)]
            total = totals.get((metric, app))
            if not total or not total["denominator"]:
                continue
            is_good = rows.iloc[0]["direction"] == "up"
            # of several targets the strictest
            objective = float(rows["target"].max() if is_good else rows["target"].min())
            allowed = (100 - objective if is_good else objective) / 100 * float(total["denominator"])
            spent = float(total["denominator"] - total["numerator"] if is_good else total["numerator"])
            share = 100 * (1 - spent / allowed) if allowed else (100.0 if not spent else -100.0)
            names.append(f"{title_of(metric)}, {app}")
            left.append(max(share, -100))
            texts.append(f"{share:,.0f} % left, objective {objective:g} %")
        if not names:
            return nothing(f"nothing was measured in the last {BUDGET_DAYS} days")
        colours = [BAD if share < 0 else SCARCE if share < 25 else GOOD for share in left]
        figure = go.Figure(go.Bar(
            x=left, y=[f"{n}: {t.partition(' left')[0]}" for n, t in zip(names, texts, strict=True)], orientation="h", text=texts, textposition="none", marker={"color": colours}, hovertemplate="%{text}<extra></extra>"
        ))  # fmt: skip
        figure.update_yaxes(autorange="reversed", type="category", title=None)
        figure.update_xaxes(ticksuffix=" %", range=[-105, 105], dtick=100)
        _caption(figure, f"left of the errors that {BUDGET_DAYS} days allow")
        figure.update_layout(
            meta=f"last {BUDGET_DAYS} days: " + "; ".join(f"{n} {t}" for n, t in zip(names, texts, strict=True))
        )
        return figure


def banner(marts: Marts, now: datetime | None = None) -> html.Div:
    """The version that is shown; and loudly, when the data is late or a check has failed."""
    published = marts.published()
    if published is None:
        return html.Div("Nothing has been published yet: `make run`, or `northstar run`, publishes the first version.", role="alert",
                        className="northstar-banner northstar-warning")  # fmt: skip
    parts = [
        html.Span(
            f"Version {published.version:,}, published {published.published_at:%Y-%m-%d %H:%M} UTC, data up to {published.as_of:%Y-%m-%d %H:%M} UTC"
        )
    ]
    late, warnings = published.lateness(now or datetime.now(UTC)), []
    if late:
        warnings.append(f"The data is {late} old: no run has published since.")
    if published.warnings:
        warnings.append("Checks that failed: " + ", ".join(published.warnings) + ".")
    banner = [html.Div(parts, className="northstar-banner", **{"data-version": str(published.version)})]
    if warnings:
        banner.append(html.Div(" ".join(warnings), role="alert", className="northstar-banner northstar-warning"))
    return html.Div(banner)


def description(
    entry: dict,
    targets: pd.DataFrame,
    currency: str,
    coverage: dict | None,
    expected: pd.DataFrame,
    verdicts: dict[str, dict],
) -> dcc.Markdown:
    """What a metric is: definition, unit, owner, how fresh it is, how well it is forecast, targets and whether those that are due later will be met."""
    own = (
        targets[targets["metric_id"] == entry["metric_id"]].sort_values(["application", "due_at", "target_id"])
        if len(targets)
        else targets
    )
    lines = [f"**{title_of(entry['metric_id'])}** (`{entry['metric_id']}`): {entry['definition']}", "",
             f"Level {entry['level']} · unit {entry['unit']} · better {entry['direction']} · owner {entry.get('owner') or '-'} · "
             f"requirements {entry.get('requirement_refs') or '-'}"]  # fmt: skip
    if coverage and coverage["last_complete"]:
        first, last = (
            period(datetime.fromisoformat(coverage[c]), coverage["grain"]) for c in ("first", "last_complete")
        )
        nulls = ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in coverage["nulls"].items())
        lines += [
            "",
            f"Data from {first}, complete up to {last}."
            + (f" Values that are missing, and why: {nulls}." if nulls else ""),
            "",
        ]
    if len(expected):
        told = expected.iloc[0]
        errors = "too few periods to try it" if told["naive_error"] is None else (
            f"its mean error in trials {shown(told['smoothing_error' if told['method'] == 'smoothing' else 'naive_error'], entry['unit'], currency)}, "
            f"that of {'the naive way' if told['method'] == 'smoothing' else 'smoothing'} {shown(told['naive_error' if told['method'] == 'smoothing' else 'smoothing_error'], entry['unit'], currency)}"
        )  # fmt: skip
        lines += ["", f"Forecast by {told['method']} from {told['periods']} periods: {errors}.", ""]
    for row in own.to_dict("records"):
        verdict = verdicts.get(row["target_id"])
        due = f", due {row['due_at']:%Y-%m-%d}" if pd.notna(row["due_at"]) else ""
        where = f" ({row['segment']} {row['segment_value']})" if row["segment"] else ""
        lines.append(f"- {row['application']}{where}: target {row['operator']} {shown(row['target'], row['unit'], currency)} by {row['grain']}{due}: "
                     f"{shown(row['value'], row['unit'], currency)}, {ZONES[row['zone']]}"
                     + (f"; {told_chance(verdict)} to be met" if verdict else ""))  # fmt: skip
    return dcc.Markdown("\n".join(lines), className="northstar-definition")


def told_chance(verdict: dict | None) -> str:
    """What the forecast says of a target that is due later: 'unlikely (7 %)'; '' for no forecast."""
    return f"{verdict['verdict']} ({100 * float(verdict['probability']):.0f} %)" if verdict else ""


def _labelled(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The rows with a source's texts in `columns` as Plotly shows them as they are."""
    if not len(frame):
        return frame
    shown = {c: pd.Series([plotly(v) for v in frame[c]], frame.index, dtype=object) for c in columns}
    return frame.assign(**shown)


def _share(frame: pd.DataFrame, part: str, whole: str) -> pd.DataFrame:
    totals = frame[frame["metric_id"] == whole].set_index(["grain", "period_start", "segment_value"])["value"]
    own = frame[frame["metric_id"] == part].copy()
    base = [totals.get(key) for key in zip(own["grain"], own["period_start"], own["segment_value"], strict=True)]
    own["value"] = [100 * v / b if v is not None and b else None for v, b in zip(own["value"], base, strict=True)]
    return own


def _axis_from(low: float, high: float) -> float:
    """Where a bridge's axis begins: at 0, or where that would leave the steps too small to see, at a round number below them."""
    spread = high - low
    if low <= 0 or spread <= 0 or spread > 0.3 * high:
        return 0.0
    unit = 10 ** math.floor(math.log10(spread))
    return max(0.0, math.floor((low - 0.5 * spread) / unit) * unit)


def _small_unit(text: str) -> list:
    number, space, unit = text.partition(" ")
    return [number, html.Small(f"{space}{unit}")] if unit else [number]


def _second_line(texts: list[str], words: list[str]) -> list[str]:
    """Axis labels with some words below each: beside a bar they would be cut off."""
    return [f"{text}<br><sub>{more or ' '}</sub>" for text, more in zip(texts, words, strict=True)]


def _caption(figure: go.Figure, text: str) -> None:
    """A few words above a figure, at its right: of which period it is. Inside they would lie on the bars."""
    place = {"x": 1, "y": 1, "xref": "paper", "yref": "paper", "xanchor": "right", "yanchor": "bottom"}
    figure.add_annotation(text=text, showarrow=False, font={"size": 11}, **place)
    figure.update_layout(margin_t=CAPTION)


def nothing(why: str) -> go.Figure:
    figure = go.Figure()
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(
        text=plotly(why), x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False, font={"size": 15}
    )
    figure.update_layout(meta=why)
    return figure
