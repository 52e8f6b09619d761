"""A client that leaves is no failure of ours: what is logged when an answer cannot be sent."""

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.http.connection import Connection


@pytest.mark.parametrize(
    ("error", "is_ours"),
    [(ConnectionResetError("closing transport"), False), (ValueError("a defect"), True)],
)
def test_error_outside_the_pipeline_is_logged_if_it_is_ours(
    error: Exception, is_ours: bool, caplog: pytest.LogCaptureFixture
) -> None:
    connection: Any = SimpleNamespace(close=lambda: None)
    with caplog.at_level(logging.INFO):
        answer = Connection.handle_error(
            connection, cast(Any, SimpleNamespace(path="/bucket/key")), 500, error
        )
    assert answer.status == 500
    assert [record.levelno >= logging.ERROR for record in caplog.records] == [is_ours]
