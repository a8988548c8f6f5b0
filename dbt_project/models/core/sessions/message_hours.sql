-- Grain: application, channel, message_hour. Number of messages sent.
{{ config(
    tags=['wide'], time_dependent=false, materialized='incremental',
    unique_key=['application', 'channel', 'message_hour'], affected_by=['message_hour'], touches=['message_hour'],
    indexes=[{'columns': ['message_hour']}]
) }}

select
    application,
    coalesce(channel, '(unknown)') as channel,
    {{ start_of('hour', 'sent_at') }} as message_hour,
    count(*) as messages
from {{ ref('stg_messages') }}
where {{ only_affected(start_of('hour', 'sent_at')) }}
group by 1, 2, 3
