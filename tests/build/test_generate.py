"""What is written from the contract is what stands in the dbt project."""

from northstar.build.generate import generated_files, staging_view
from northstar.contract import entities


def test_the_generated_files_are_those_in_the_project():
    for path, content in generated_files().items():
        assert path.read_text() == content, f"{path} differs from the contract; run python -m northstar.build.generate"


def test_there_are_38_entities_each_with_a_key_a_cursor_and_a_time_of_its_own():
    assert len(entities()) == 38
    for entity in entities().values():
        assert (
            set(entity.key) <= set(entity.columns)
            and entity.cursor in entity.columns
            and entity.own_time in entity.columns
        )


def test_rows_at_or_after_as_of_are_hidden_and_later_times_read_as_null():
    sql = staging_view(entities()["bookings"])
    assert "where requested_at < {{ as_of() }}" in sql
    # and so does a time before the row's own (what is completed before it was requested)
    assert (
        "case when completed_at < {{ as_of() }} and completed_at >= requested_at then completed_at end as completed_at"
        in sql
    )


def test_dropped_personal_data_has_no_column():
    assert "full_name" not in entities()["accounts"].stored_columns
    assert "full_name" not in staging_view(entities()["accounts"])
