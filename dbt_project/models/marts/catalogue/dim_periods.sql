-- Grain: grain, period_start. The periods of the warehouse's history: every hour, day, week, month, quarter and year up to as_of.
{{ config(meta={'key': ['grain', 'period_start']}) }}

select
    grain,
    period_start,
    period_end
from {{ ref('periods') }}
