"""Clients that don't wait long, so that many failures fit into a test."""

import pytest

from signet_client import backoff, connection, link, live


@pytest.fixture
def hasty_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """They soon connect again, and soon say again what has got no answer."""
    monkeypatch.setattr(backoff, "BACKOFF_MAX_S", 0.3)
    monkeypatch.setattr(link, "WATCH_EVERY_S", 3.0)
    monkeypatch.setattr(live, "ANSWER_TIMEOUT_S", 3.0)
    monkeypatch.setattr(live, "MARKS_RETRY_S", 0.3)


@pytest.fixture
def wary_clients(hasty_clients: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For them a silent server is gone after 5 s, too."""
    monkeypatch.setattr(connection, "PING_EVERY_S", 2.0)
    monkeypatch.setattr(connection, "PONG_TIMEOUT_S", 3.0)
