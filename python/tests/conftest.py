"""Options of the tests."""

import pytest


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="repeat what may fail once in a while many times instead of a few")


@pytest.fixture(scope="session")
def times(request):
    """How often: a few times, or many with --long."""
    return lambda few, many: many if request.config.getoption("--long") else few
