-- Grain: grain, period_start, application, segment, segment_value. How MRR went from each period's start to its end, for every segment value:
-- opening + movements + transfers = closing. Publishing reads mrr_bridge_by_period, readers of the candidate this view.
{{ config(
    materialized='view',
    meta={'is_union': true, 'key': ['grain', 'period_start', 'application', 'segment', 'segment_value']}
) }}

with bridge as (
    select * from {{ ref('mrr_bridge_by_period') }}
),

-- a segment of which anything is withheld: what enters one value has left another, and a period opens as the one before closed
withheld as (
    select distinct segment from {{ ref('metric_series') }}
    where state = 'small_group'
)

select * from bridge
{% if suppress_below() > 0 %}
where segment not in (select segment from withheld)
{% endif %}
