{# What a changed row touches in the engineering models (see incremental.sql). #}

{# open bugs and the analysers' figures stand: what changed once changes all that follows #}
{% macro affected__metrics_engineering() %}
    {{ affected_periods(
        facts=['sprints'],
        changed={
            'incidents': ['resolved_at', 'acknowledged_at', 'started_at'], 'security_events': ['occurred_at'],
            'deployments': ['started_at'], 'work_items': ['created_at', 'completed_at'],
            'pull_requests': ['opened_at', 'merged_at'],
        },
        onward_changed={'work_items': ['created_at', 'completed_at'], 'code_quality': ['captured_on']},
        series=['series_engineering'], open_changes=false
    ) }}
{% endmacro %}
