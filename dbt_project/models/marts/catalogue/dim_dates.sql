-- Grain: date_on. The calendar of the warehouse's history, up to a year after as_of for due dates.
{{ config(meta={'key': ['date_on']}) }}

with history as (
    select min(period_start)::date as started_on from {{ ref('periods') }}
)

select
    days.day::date as date_on,
    extract(isodow from days.day)::int as iso_weekday,
    extract(isoyear from days.day)::int as iso_year,
    extract(week from days.day)::int as iso_week,
    extract(year from days.day)::int as calendar_year,
    extract(quarter from days.day)::int as calendar_quarter,
    extract(month from days.day)::int as calendar_month,
    {{ start_of('week', 'days.day') }}::date as week_starts_on,
    {{ start_of('month', 'days.day') }}::date as month_starts_on,
    {{ start_of('quarter', 'days.day') }}::date as quarter_starts_on,
    {{ start_of('year', 'days.day') }}::date as year_starts_on,
    extract(isodow from days.day) > 5 as is_weekend
from history
cross join lateral generate_series(
    history.started_on::timestamp, {{ start_of('year', '(' ~ as_of() ~ ')::timestamp') }} + interval '2 years' - interval '1 day',
    interval '1 day'
) as days (day)
