-- Grain: entity, kind, changed_hour. Rows that landed since the last publication and belong to a time before it: corrected rows and late rows. The
-- reasons of restatements come from here.
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
