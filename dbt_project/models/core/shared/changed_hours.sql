-- Grain: entity, kind, changed_hour. Rows that landed since the last publication and belong to a time before it: late rows, corrected rows, and rows
-- that lost a person's name in an erasure. The reasons of restatements come from here.
{{ config(is_about_run=true) }}
{% set context = run_context() %}
with replaced as (
    -- a row that no publication has read was not published, so nothing about it was corrected
    select
        entity,
        row,
        batch_id in (
            select batches.batch_id from audit.landing_batches as batches
            inner join audit.runs as runs on batches.run_id = runs.run_id
            where runs.trigger like 'erasure %'
        ) as is_erased
    from staging._replaced
    where batch_id > {{ context.since_batch_id }}
        and (row ->> '_batch_id')::bigint <= {{ context.since_batch_id }}
        and {{ 'true' if context.previous_as_of else 'false' }}
)

{% set changed_at -%}
(row ->> case entity
        {% for entity, columns in entity_times().items() %}when '{{ entity }}' then '{{ columns.own }}' {% endfor %}end)::timestamptz
{%- endset %}
{% for entity, columns in entity_times().items() %}
select distinct
    '{{ entity }}' as entity,
    'late_rows' as kind,
    {{ start_of('hour', columns.own ~ '::timestamptz') }} as changed_hour
from {{ source('staging', entity) }}
where _batch_id > {{ context.since_batch_id }}
    and {{ columns.own }} < {% if context.previous_as_of %}timestamptz '{{ context.previous_as_of }}'{% else %}null{% endif %}
    and ({{ columns.key | join(', ') }}) not in (
        select {% for column in columns.key %}published.{{ column }}{{ ', ' if not loop.last }}{% endfor %}
        from replaced cross join lateral jsonb_populate_record(null::{{ source('staging', entity) }}, replaced.row) as published
        where replaced.entity = '{{ entity }}'
    )
union all
{% endfor %}
select distinct
    entity,
    case when is_erased then 'erasure' else 'correction' end,
    {{ start_of('hour', changed_at) }}
from replaced
