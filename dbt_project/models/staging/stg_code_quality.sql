-- Grain: captured_on, application, component. Written by northstar.build.generate from the source contract.
select
    captured_on,
    application,
    component,
    test_coverage_percent,
    duplication_percent,
    technical_debt_percent,
    critical_vulnerabilities,
    high_vulnerabilities,
    _extra,
    _batch_id,
    _loaded_at
from {{ source('staging', 'code_quality') }}
where captured_on < {{ as_of() }}
