"""Connections: the address that a connector asks."""

import pytest

from northstar.base.errors import NorthstarError
from northstar.connections.find import Connection


@pytest.mark.parametrize(
    ("connection", "url"),
    [
        (Connection("x", host="api.example.org"), "https://api.example.org"),
        (Connection("x", host="127.0.0.1", port=8080, schema="http"), "http://127.0.0.1:8080"),
        (Connection("x", host="http://127.0.0.1", port=8080), "http://127.0.0.1:8080"),
    ],
)
def test_a_connections_address(connection, url):
    assert connection.url() == url


def test_a_path_in_the_place_of_the_schema_is_named():
    """As in AIRFLOW_CONN_X=http://:key@127.0.0.1:8791/v2, of which Airflow makes a schema `v2`."""
    with pytest.raises(NorthstarError, match="the connection x: its schema is 'v2', and http or https is expected"):
        Connection("x", host="127.0.0.1", port=8791, schema="v2").url()
