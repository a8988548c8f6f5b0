-- Grain: entity, kind, changed_hour. What came since the last publication and belongs to a time before it: rows that were corrected,
-- and rows that came late. It says why a published value was restated.
{% set context = run_context() %}
{% for entity, times in entity_times().items() %}
select distinct
    '{{ entity }}' as entity,
    'late_rows' as kind,
    date_trunc('hour', {{ times.own }}::timestamptz) as changed_hour
from {{ source('staging', entity) }}
where _batch_id > {{ context.since_batch_id }}
    and {{ times.own }} < {% if context.previous_as_of %}timestamptz '{{ context.previous_as_of }}'{% else %}null{% endif %}
union all
{% endfor %}
select distinct
    entity,
    'correction',
    date_trunc('hour', (row ->> case entity
        {% for entity, times in entity_times().items() %}when '{{ entity }}' then '{{ times.own }}' {% endfor %}end)::timestamptz)
from staging._replaced
where batch_id > {{ context.since_batch_id }}
    and {{ 'true' if context.previous_as_of else 'false' }}
