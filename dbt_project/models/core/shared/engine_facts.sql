-- Grain: fact. What the models with the tag wide take for granted of their engine. A fact that does not hold ends the build.
{{ config(tags=['wide'], materialized='table', time_dependent=false) }}
{% set facts = {
    'a member of a JSON document is text':
        json_text(json_document('{"a": "b"}'), 'a') ~ " = 'b'",
    'a number in a JSON document is the text that was written':
        json_text(json_document('{"a": 1.5}'), 'a') ~ " = '1.5'",
    'a truth in a JSON document is its name':
        json_text(json_document('{"a": true}'), 'a') ~ " = 'true'",
    'a null in a JSON document is null':
        json_text(json_document('{"a": null}'), 'a') ~ ' is null',
    'a member that a JSON document lacks is null':
        json_text(json_document('{"b": 1}'), 'a') ~ ' is null',
    'an empty text in a JSON document is empty':
        json_text(json_document('{"a": ""}'), 'a') ~ " = ''",
    'a JSON list has no members':
        json_text(json_document('["a"]'), 'a') ~ ' is null',
    'an escaped letter in a JSON document is the letter':
        json_text(json_document('{"a": "\\u00e9"}'), 'a') ~ " = 'é'",
    'seconds have six digits after the point':
        seconds_between(instant('2026-02-28 23:59:59.000001+00'), instant('2026-03-01 00:00:00.5+00')) ~ ' = 1.499999',
    'seconds count days of 24 hours':
        seconds_between(instant('2026-03-28 12:00:00+00'), instant('2026-03-30 12:00:00+00')) ~ ' = 172800',
    'texts have the order of their bytes':
        by_bytes("'B'") ~ ' < ' ~ by_bytes("'a'") ~ ' and ' ~ by_bytes("'z'") ~ ' < ' ~ by_bytes("'é'"),
    'texts that differ in case are different': "'a' != 'A'",
    'blanks at the end of a text count': "'a' != 'a '",
    'a text is counted and cut by characters': "char_length('é€𝄞') = 3 and left('é€𝄞x', 3) = 'é€𝄞'",
    'an underscore is meant as one after a backslash': "'a_failed' like '%\\_failed' and 'afailed' not like '%\\_failed'",
    'a day begins at midnight in UTC':
        "cast(" ~ instant('2026-03-01 00:30:00+02') ~ " as date) = date '2026-02-28'",
    'an hour begins at its first microsecond':
        "date_trunc('hour', " ~ instant('2026-03-01 10:59:59.999999+00') ~ ') = ' ~ instant('2026-03-01 10:00:00+00'),
    'a week begins on Monday':
        "date_trunc('week', " ~ instant('2026-03-01 10:00:00+00') ~ ') = ' ~ instant('2026-02-23 00:00:00+00'),
    'a time before 1900 is what it is':
        "date_trunc('hour', " ~ instant('1890-01-01 10:10:10+00') ~ ') = ' ~ instant('1890-01-01 10:00:00+00'),
    'a comparison with null is null': '(cast(null as integer) = 1) is null',
    'decimals add up without a rest': 'cast(0.1 as decimal(38, 12)) + cast(0.2 as decimal(38, 12)) = 0.3',
} %}
{% for fact, condition in facts.items() %}
select '{{ fact }}' as fact, {{ condition }} as is_true
{{ 'union all' if not loop.last }}
{% endfor %}
