"""Subjects whose decoder is known to be honest, or known to know clusters alone."""

from __future__ import annotations

import pytest
from planted_subjects import categories_in_runs, planted


@pytest.fixture(scope="session")
def clustered():
    return planted("clusters")


@pytest.fixture(scope="session")
def linear():
    return planted("linear")


@pytest.fixture(scope="session")
def by_run():
    return categories_in_runs("run")


@pytest.fixture(scope="session")
def by_category():
    return categories_in_runs("stimulus")
