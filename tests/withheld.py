"""Series of the published small company, withheld as those of small groups are, and as they were afterwards."""

from contextlib import contextmanager

from northstar.warehouse import db


@contextmanager
def withheld(settings, place: str):
    """The series of a condition on marts.metric_series, withheld for as long as the context lasts."""
    with db.connect(settings, "owner") as connection:
        points = f"series_id in (select series_id from marts.metric_series where {place})"
        connection.execute(f"create temporary table points as select * from marts.metric_points where {points}")
        connection.execute(f"delete from marts.metric_points where {points}")
        connection.execute(f"create temporary table series as select * from marts.metric_series where {place}")
        connection.execute(f"update marts.metric_series set state = 'small_group' where {place}")
        connection.commit()
        try:
            yield
        finally:
            connection.execute(f"delete from marts.metric_series where {place}")
            connection.execute("insert into marts.metric_series select * from series")
            connection.execute("insert into marts.metric_points select * from points")
            connection.commit()
