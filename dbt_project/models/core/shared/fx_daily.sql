-- Grain: currency, rate_on. The rate that holds on each day: the newest on or before it, for one major unit.
{% set reporting, base = rule('reporting_currency'), rates_currency() %}

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
    where currency != '{{ base }}'
){% if base != reporting %},

daily as (
{% endif %}

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
{% if base != reporting %}
),

-- what the reporting currency is worth in the currency of the rates: since then there are rates
reporting_days as (
    select
        rate_on,
        rate
    from daily
    where currency = '{{ reporting }}'
)

select
    daily.currency,
    daily.rate_on,
    -- a quotient is rounded, at a digit that no amount shows
    trim_scale(daily.rate::numeric(48, 24) / reporting_days.rate) as rate
from daily
inner join reporting_days on daily.rate_on = reporting_days.rate_on
where daily.currency != '{{ reporting }}'
union all
select
    '{{ base }}' as currency,
    rate_on,
    trim_scale(1::numeric(48, 24) / rate) as rate
from reporting_days
{% endif %}
