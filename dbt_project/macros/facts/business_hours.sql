{#
The seconds between two instants in which an application's support is open (`support_calendars` of northstar.yml); null where it has no calendar,
and where an instant is. Hours are those of a clock in the calendar's time zone, so a day on which clocks change has as many as it really has.
#}
{% macro business_seconds(from_instant, to_instant, application) -%}
    {%- set calendars = run_context().rules.get('support_calendars', {}) -%}
    {%- if not calendars -%}
    null::numeric
    {%- else -%}
    {%- set names, hours, holidays = [], [], [] -%}
    {%- for name, calendar in calendars.items() -%}
        {%- set quoted = "'" ~ (name | replace("'", "''")) ~ "'" -%}
        {%- do names.append(quoted) if name != 'default' -%}
        {%- for weekday, spans in calendar.hours.items() -%}
            {%- set number = ['monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday'].index(weekday) + 1 -%}
            {%- for span in spans.split(',') -%}
                {%- set times = (span | trim).split('-') -%}
                {%- do hours.append('(' ~ quoted ~ ', ' ~ number ~ ", time '" ~ times[0] ~ "', time '" ~ times[1] ~ "', '" ~ calendar.time_zone ~ "')") -%}
            {%- endfor -%}
        {%- endfor -%}
        {%- for day in calendar.holidays -%}
            {%- do holidays.append('(' ~ quoted ~ ", date '" ~ day ~ "')") -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- set named = application ~ ' in (' ~ names | join(', ') ~ ')' if names else 'false' -%}
    case
        when {{ from_instant }} <= {{ to_instant }}{% if 'default' not in calendars %} and {{ named }}{% endif %} then (
            select
                coalesce(sum(extract(epoch from greatest(
                    least({{ to_instant }}, (days.day + hours.closes) at time zone hours.time_zone)
                    - greatest({{ from_instant }}, (days.day + hours.opens) at time zone hours.time_zone),
                    interval '0 seconds'
                ))), 0)
            from (values {{ hours | join(', ') }}) as hours (calendar, weekday, opens, closes, time_zone)
            cross join lateral generate_series(
                ({{ from_instant }} at time zone hours.time_zone)::date::timestamp,
                ({{ to_instant }} at time zone hours.time_zone)::date::timestamp,
                interval '1 day'
            ) as days (day)
            where hours.calendar = case when {{ named }} then {{ application }} else 'default' end
                and extract(isodow from days.day) = hours.weekday
                {% if holidays %}
                and (hours.calendar, days.day::date) not in ({{ holidays | join(', ') }})
                {% endif %}
        )
    end
    {%- endif -%}
{%- endmacro %}

{# A measure of business hours: nothing is reckoned where no application has a calendar. #}
{% macro by_calendar(measure) -%}
    {{ return(measure if run_context().rules.get('support_calendars') else 'null::numeric') }}
{%- endmacro %}

{# Whether a row's application has a calendar. #}
{% macro has_calendar(application) -%}
    {%- set calendars = run_context().rules.get('support_calendars', {}) -%}
    {%- set names = [] -%}
    {%- for name in calendars | sort -%}{%- do names.append("'" ~ (name | replace("'", "''")) ~ "'") -%}{%- endfor -%}
    {{ return('true' if 'default' in calendars else (application ~ ' in (' ~ names | join(', ') ~ ')' if names else 'false')) }}
{%- endmacro %}
