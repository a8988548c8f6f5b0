{# What a changed row touches in the assistant's and the community's models (see incremental.sql). #}

{% macro affected__metrics_ai() %}
    {{ affected_periods(changed={'ai_responses': ['created_at']}, series=['series_ai'], open_changes=false) }}
{% endmacro %}

{% macro affected__metrics_community() %}
    {{ affected_periods(
        changed={'package_downloads': ['downloaded_on']}, onward_changed={'community_snapshots': ['captured_on']},
        series=['series_community'], open_changes=false
    ) }}
{% endmacro %}
