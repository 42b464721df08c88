"""The databases that the tests need: whether they answer is a test of its own, so that no run is silently smaller."""

import pytest
from sqlalchemy import create_engine, text
from support.databases import server


@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_server_answers(name: str) -> None:
    """The server answers; where `SA_KEYVAULT_TEST_REQUIRE` is set, its absence is a failure."""
    engine = create_engine(server(name).url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()
