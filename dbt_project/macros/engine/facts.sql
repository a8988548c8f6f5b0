{#
What the models with the tag `wide` take for granted of their engine: {the fact in words: the condition}. The model engine_facts asks Spark, and
`require_engine_facts` asks Postgres, before anything is built.
#}
{% macro engine_facts() %}
    {%- set three_rows -%}
        select 1 as place, 'b' as name, 10 as amount, cast(1.5 as decimal(38, 12)) as cost
        union all
        select 2 as place, 'B' as name, cast(null as integer) as amount, cast(2.25 as decimal(38, 12)) as cost
        union all
        select 2 as place, 'a' as name, 30 as amount, cast(null as decimal(38, 12)) as cost
    {%- endset -%}
    {{ return({
        'what cannot be reckoned is an error': is_strict(),
        'the session is in UTC': is_in_utc(),
        'a member of a JSON document is text':
            json_text(json_document('{"a": "b"}'), 'a') ~ " = 'b'",
        'a member is found by all of its name':
            json_text(json_document('{"A": "b", "ab": "c", "b": "d"}'), 'a') ~ ' is null',
        'a null in a JSON document is null':
            json_text(json_document('{"a": null}'), 'a') ~ ' is null',
        'a member that a JSON document lacks is null':
            json_text(json_document('{"b": "1"}'), 'a') ~ ' is null',
        'an empty text in a JSON document is empty':
            json_text(json_document('{"a": ""}'), 'a') ~ " = ''",
        'blanks and brackets in a text of a JSON document stay':
            json_text(json_document('{"a": " {b: [1.50,  2]} "}'), 'a') ~ " = ' {b: [1.50,  2]} '",
        'a JSON list has no members':
            json_text(json_document('["a"]'), 'a') ~ ' is null',
        'an escaped letter in a JSON document is the letter':
            json_text(json_document('{"a": "\\u00e9"}'), 'a') ~ " = 'é'",
        'an escaped pair in a JSON document is one letter':
            'char_length(' ~ json_text(json_document('{"a": "\\ud834\\udd1e"}'), 'a') ~ ') = 1',
        'seconds have six digits after the point':
            seconds_between(instant('2026-02-28 23:59:59.000001+00'), instant('2026-03-01 00:00:00.5+00')) ~ ' = 1.499999',
        'seconds count days of 24 hours':
            seconds_between(instant('2026-03-28 12:00:00+00'), instant('2026-03-30 12:00:00+00')) ~ ' = 172800',
        'seconds backwards are negative':
            seconds_between(instant('2026-03-01 00:00:00.5+00'), instant('2026-03-01 00:00:00+00')) ~ ' = -0.5',
        'texts have the order of their bytes':
            by_bytes("'B'") ~ ' < ' ~ by_bytes("'a'") ~ ' and ' ~ by_bytes("'z'") ~ ' < ' ~ by_bytes("'é'"),
        'a letter outside of the first plane comes after those in it': by_bytes("'！'") ~ ' < ' ~ by_bytes("'𝄞'"),
        'texts that differ in case are different': "'a' != 'A'",
        'blanks at the end of a text count': "'a' != 'a '",
        'an empty text is no null': "'' is not null and '' = ''",
        'a text is counted and cut by characters': "char_length('é€𝄞') = 3 and left('é€𝄞x', 3) = 'é€𝄞'",
        'a text shorter than the cut stays': "left('ab', 3) = 'ab'",
        'an underscore is meant as one after a backslash': "'a_failed' like '%\\_failed' and 'afailed' not like '%\\_failed'",
        'a pattern minds the case': "'A_FAILED' not like '%\\_failed'",
        'a day begins at midnight in UTC':
            "cast(" ~ instant('2026-03-01 00:30:00+02') ~ " as date) = date '2026-02-28'",
        'a leap day is a day':
            "cast(" ~ instant('2028-02-29 23:59:59.999999+00') ~ " as date) = date '2028-02-29'",
        'an instant is the same from every place':
            instant('2026-03-01 00:30:00+02') ~ ' = ' ~ instant('2026-02-28 17:30:00-05'),
        'an instant has microseconds':
            instant('2026-03-01 00:00:00.000001+00') ~ ' > ' ~ instant('2026-03-01 00:00:00+00'),
        'an hour begins at its first microsecond':
            "date_trunc('hour', " ~ instant('2026-03-01 10:59:59.999999+00') ~ ') = ' ~ instant('2026-03-01 10:00:00+00'),
        'the hour in which clocks are put forward is an hour':
            "date_trunc('hour', " ~ instant('2026-03-29 01:30:00+00') ~ ') = ' ~ instant('2026-03-29 01:00:00+00'),
        'a week begins on Monday':
            "date_trunc('week', " ~ instant('2026-03-01 10:00:00+00') ~ ') = ' ~ instant('2026-02-23 00:00:00+00'),
        'a time before 1900 is what it is':
            "date_trunc('hour', " ~ instant('1890-01-01 10:10:10+00') ~ ') = ' ~ instant('1890-01-01 10:00:00+00'),
        'a comparison with null is null': '(cast(null as integer) = 1) is null',
        'a null in a list of one is null': '(cast(null as integer) in (1)) is null and (1 not in (2, null)) is null',
        'a range has both of its ends': '500 between 500 and 599 and 599 between 500 and 599',
        'a case without a branch that holds is null': '(case when 1 = 2 then 3 end) is null',
        'decimals add up without a rest': 'cast(0.1 as decimal(38, 12)) + cast(0.2 as decimal(38, 12)) = 0.3',
        'a decimal has 26 digits before the point and twelve after it':
            "cast('99999999999999999999999999.999999999999' as decimal(38, 12)) - 99999999999999999999999999 = 0.999999999999",
        'whole numbers are exact beyond those of doubles': 'cast(9007199254740992 as bigint) + 1 = 9007199254740993',
        'a sum of decimals is exact': '(select sum(cost) from (' ~ three_rows ~ ') as r) = 3.75',
        'a sum and an extreme leave nulls out':
            '(select sum(amount) from (' ~ three_rows ~ ') as r) = 40 and (select min(cost) from (' ~ three_rows ~ ') as r) = 1.5',
        'a sum of nothing is null and a count of nothing is 0':
            '(select sum(amount) from (' ~ three_rows ~ ') as r where place = 3) is null and (select count(*) from (' ~ three_rows ~ ') as r where place = 3) = 0',
        'a count of a column leaves nulls out': '(select count(amount) from (' ~ three_rows ~ ') as r) = 2',
        'a filter takes what is true, not what is null':
            '(select count(*) filter (where amount > 5) from (' ~ three_rows ~ ') as r) = 2',
        'nulls are one group':
            '(select count(*) from (select amount from (' ~ three_rows ~ ' union all ' ~ three_rows ~ ') as r group by amount) as g) = 3',
        'the first of several comes by time and then by bytes':
            '(select ' ~ first_value_by('name', ['place', by_bytes('name')], where='place = 2') ~ ' from (' ~ three_rows ~ ") as r) = 'B'",
        'the first of several may be null':
            '(select ' ~ first_value_by('amount', ['place', by_bytes('name')], where='place = 2') ~ ' from (' ~ three_rows ~ ') as r) is null',
        'the first of none is null':
            '(select ' ~ first_value_by('name', ['place'], where='place = 3') ~ ' from (' ~ three_rows ~ ') as r) is null',
    }) }}
{% endmacro %}

{# The facts that this session can be asked for: in a company's own time zone, those that do not speak of UTC. #}
{% macro facts_to_ask() %}
    {%- if rule('reporting_time_zone') == 'UTC' -%}{{ return(engine_facts()) }}{%- endif -%}
    {%- set facts = {} -%}
    {%- for fact, condition in engine_facts().items() if fact not in [
        'the session is in UTC', 'a day begins at midnight in UTC', 'a leap day is a day', 'an hour begins at its first microsecond',
        'the hour in which clocks are put forward is an hour', 'a week begins on Monday', 'a time before 1900 is what it is',
    ] -%}
        {%- do facts.update({fact: condition}) -%}
    {%- endfor -%}
    {{ return(facts) }}
{% endmacro %}

{# Before a full build: an error that names what this Postgres gets wrong. #}
{% macro require_engine_facts() %}
    {%- if execute and target.type == 'postgres' and flags.WHICH == 'build' and run_context().is_full %}
    {%- set zone = rule('reporting_time_zone') %}
    do $facts$
    declare
        wrong text;
    begin
        {%- if zone != 'UTC' %}
        if current_setting('TimeZone') != '{{ zone }}' then
            raise exception 'the models'' session counts days in %, and the company in {{ zone }}', current_setting('TimeZone');
        end if;
        {%- endif %}
        select string_agg(fact, '; ' order by fact) into wrong
        from (
            {%- for fact, condition in facts_to_ask().items() %}
            select '{{ fact }}' as fact, {{ condition }} as is_true
            {{ 'union all' if not loop.last }}
            {%- endfor %}
        ) as facts
        where is_true is not true;
        if wrong is not null then
            raise exception 'this Postgres does not reckon as the models need it: %', wrong;
        end if;
    end $facts$;
    {%- endif %}
{% endmacro %}
