"""Where the API is served, and whether it is there."""

from northstar.base.settings import Settings
from northstar.use.api import serve
from tests.use.api.conftest import address_of, serving_api


def test_where_airflow_is_served_is_not_where_the_api_is(tmp_path, monkeypatch):
    """Both once read the same variables: Airflow on all addresses made the API's tokens cross the network in clear."""
    monkeypatch.setenv("NORTHSTAR_API_PORT", "8080")
    monkeypatch.setenv("NORTHSTAR_API_HOST", "0.0.0.0")
    assert serve.host() == "127.0.0.1" and serve.port(Settings(home=tmp_path, root=tmp_path)) != 8080
    monkeypatch.setenv("NORTHSTAR_METRICS_API_PORT", "8060")
    monkeypatch.setenv("NORTHSTAR_METRICS_API_HOST", "0.0.0.0")
    assert serve.host() == "0.0.0.0" and serve.port(Settings(home=tmp_path, root=tmp_path)) == 8060
    assert "in clear" in serve.cleartext_warning()


def test_whether_the_api_is_there_is_asked_without_a_token(built, monkeypatch):
    with serving_api(built) as server:
        monkeypatch.setenv("NORTHSTAR_METRICS_API_PORT", address_of(server).rpartition(":")[2])
        assert serve.is_answering(built)
    assert not serve.is_answering(built)
