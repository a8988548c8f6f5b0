-- Grain: currency, rate_on. The rate that holds on each day: the newest on or before it, for one major unit.
with rates as (
    select * from {{ ref('stg_fx_rates') }}
),

intervals as (
    select
        currency,
        rate_date,
        rate_to_reporting as rate,
        lead(rate_date) over (partition by currency order by rate_date) as next_rate_date
    from rates
    where currency != '{{ rule("reporting_currency") }}'
)

select
    intervals.currency,
    days.rate_on::date as rate_on,
    intervals.rate
from intervals
cross join lateral generate_series(
    intervals.rate_date::timestamp,
    coalesce(intervals.next_rate_date - 1, ({{ as_of() }})::date)::timestamp,
    interval '1 day'
) as days (rate_on)
