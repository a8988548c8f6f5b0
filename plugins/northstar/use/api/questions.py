"""What a request may say: the parameters of each question, with their limits. A parameter that a question does not have is refused."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from northstar.base.clock import Grain
from northstar.use.answers.changes import MOST_RESTATEMENTS
from northstar.use.answers.customers import MOST_CUSTOMERS
from northstar.use.answers.marks import MOST_MARKS
from northstar.use.answers.query import MOST_QUERY_ROWS, STATEMENT
from northstar.use.answers.values import MOST_VALUES
from northstar.use.api.formats import Format

TEXT = 200
# Postgres's bigint, far from its end
NUMBER = 10**12
PERIOD = "a period: 2026-03, 2026-Q1, 2026, the date that it begins on, a time for an hour, or newest (the newest complete one)"

Text = Annotated[str, Field(max_length=TEXT)]
Version = Annotated[int, Field(ge=1, le=NUMBER)]
MetricName = Annotated[str, Field(max_length=TEXT, description="the id or title of a metric, such as mrr")]


class Question(BaseModel):
    """What every question may say."""

    model_config = ConfigDict(extra="forbid")

    version: Version | None = Field(None, description="a published version; the newest by default")
    link: Text = Field("", description="of a signed link: its id")
    signature: Text = Field("", description="of a signed link: its signature")

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_null_characters(cls, value: object) -> object:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("no null characters")
        return value


class TableQuestion(Question):
    """A question whose answer is a table."""

    format: Format | None = Field(
        None, description="json, csv or arrow (a stream of record batches); by default what Accept names, else json"
    )


class MetricsQuestion(TableQuestion):
    """Which metrics are wanted."""

    search: Text = Field("", description="words that the id or the definition has")
    domain: Text = Field("", description="such as revenue")


class PlaceQuestion(TableQuestion):
    """Where a value is."""

    grain: Grain | None = Field(
        None, description="the length of the period; by default the month, or else what the metric has"
    )
    application: Text = Field("all", description="a product, or all for the company")
    segment: Text = Field("", description="an attribute by which the metric is split, such as plan_tier")
    segment_value: Text | None = Field(None, description="one value of the segment")


class ValuesQuestion(PlaceQuestion):
    """Which values are wanted."""

    since: Text = Field("", description=f"the first period: {PERIOD}")
    until: Text = Field("", description="the last period, written in the same way")
    open: bool = Field(False, description="true: also the values so far of periods that are still open")
    limit: int | None = Field(None, ge=1, le=MOST_VALUES, description="the most values; the newest are given")


class ValueQuestion(PlaceQuestion):
    """Which value is wanted."""

    period: Text = Field("newest", description=PERIOD)
    open: bool = Field(False, description="true: also the value so far of a period that is still open")


class CompareQuestion(PlaceQuestion):
    """Which periods are compared."""

    newer: Text = Field("newest", description=PERIOD)
    older: Text = Field("", description="the other period; by default the one before")


class ExplainQuestion(Question):
    """Which value is explained."""

    period: Text = Field("newest", description=PERIOD)
    grain: Grain | None = Field(
        None, description="the length of the period; by default the month, or else what the metric has"
    )
    application: Text = Field("all", description="a product, or all for the company")
    segment: Text = Field("", description="an attribute by which the metric is split, such as plan_tier")
    segment_value: Text | None = Field(None, description="one value of the segment")
    rows: bool = Field(False, description="true: with the largest rows behind it (scope rows)")


class RestatementsQuestion(TableQuestion):
    """Which restatements are wanted."""

    metric: Text = Field("", description="one metric")
    application: Text = Field("", description="one product, or all for the company")
    since_version: int | None = Field(None, ge=0, le=NUMBER, description="only what later versions changed")
    limit: int | None = Field(None, ge=1, le=MOST_RESTATEMENTS, description="the most rows; the newest are given")


class ChangesQuestion(TableQuestion):
    """Since when changes are wanted."""

    since_version: int | None = Field(
        None, ge=0, le=NUMBER, description="the version that is known; by default the one before the newest"
    )


class TargetsQuestion(TableQuestion):
    """Which targets are wanted."""

    metric: Text = Field("", description="one metric")
    application: Text = Field("all", description="a product; all: of every product")
    zone: Literal["", "green", "yellow", "red", "unknown"] = Field("", description="only targets of this zone")


class MarksQuestion(TableQuestion):
    """Which marks are wanted."""

    metric: Text = Field("", description="marks of this metric, and those that are about any")
    application: Text = Field("all", description="marks of a product, and of the company; all: of every product")
    since: Text = Field("", description="a date or a time; by default three months before the end")
    until: Text = Field("", description="a date or a time, exclusive; by default the newest")
    limit: int | None = Field(None, ge=1, le=MOST_MARKS, description="the most marks; the newest are given")


class CustomersQuestion(TableQuestion):
    """Which accounts are wanted."""

    application: Text = Field("all", description="a product; all: of every product")
    account_id: Text = Field("", description="one account")
    country: Text = Field("", description="ISO 3166-1 alpha-2")
    limit: int | None = Field(
        None, ge=1, le=MOST_CUSTOMERS, description="the most accounts; those with the largest MRR are given"
    )


class SqlQuestion(TableQuestion):
    """A statement over the published marts."""

    sql: str = Field(
        min_length=1, max_length=STATEMENT, description="one statement, run as the read-only role bi_reader"
    )
    limit: int | None = Field(None, ge=1, le=MOST_QUERY_ROWS, description="the most rows")
