{# What a changed row touches in the marketplace models (see incremental.sql). #}

{% macro affected__fct_bookings() %}
    select booking_id from ({{ changed_rows('bookings') }}) as changed
    union
    select booking_id from ({{ changed_rows('reviews') }}) as changed
    union
    select booking_id from ({{ changed_rows('messages') }}) as changed
    where booking_id is not null
    union
    select bookings.booking_id
    from {{ source('staging', 'bookings') }} as bookings
    inner join ({{ changed_rows('fx_rates') }}) as changed
        on changed.currency = bookings.currency and bookings.requested_at >= changed.rate_date
{% endmacro %}

{% macro affected__metrics_marketplace() %}
    {{ affected_periods(
        facts=['fct_bookings'],
        changed={'reviews': ['created_at'], 'tutor_applications': ['applied_at'], 'package_purchases': ['purchased_at']},
        series=['series_marketplace'], upstream=['active_by_period'], open_changes=false
    ) }}
{% endmacro %}
