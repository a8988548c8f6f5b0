"""A desk over the published small company, and a question asked of it."""

import pytest

from northstar.use.answers.reading import SCOPES, Desk


@pytest.fixture(scope="module")
def desk(built):
    desk = Desk(built)
    yield desk
    desk.close()


@pytest.fixture
def ask(desk):
    """ask(function, ...): its answer; `scopes`, `version` and `is_apart` are the reading's."""

    def ask(function, *values, scopes=SCOPES, version=None, is_apart=False, **named):
        with desk.reading(scopes, version, is_apart) as reading:
            return function(reading, *values, **named)

    return ask
