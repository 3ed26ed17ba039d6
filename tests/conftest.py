"""The database that Django's tests use: a file, as on a real site. In memory, SQLite has another way of locking."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Called by pytest-django before it makes the database."""
    from django.db import connections

    connections["default"].settings_dict["TEST"]["NAME"] = str(tmp_path_factory.mktemp("django") / "test.sqlite3")
