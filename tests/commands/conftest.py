"""Databases in the form in which commands get them."""

import pytest

from persistence.postgres.dsn import Dsn
from tests.support.processes import free_port
from tests.support.servers import url_of

SECRET = "correct-horse"


@pytest.fixture
def url(migrated_dsn: Dsn) -> str:
    """The address of a migrated database of the test's own."""
    return url_of(migrated_dsn)


@pytest.fixture
def url_of_nothing() -> str:
    """An address at which no server listens."""
    return f"postgresql://app:{SECRET}@127.0.0.1:{free_port()}/todo"
