from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.envs.market.sources.yahoo_server import Exchange, served


@pytest.fixture
def server(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A local server that answers like Yahoo Finance with the module's fixture `exchange`."""
    with served(exchange, monkeypatch) as url:
        yield url
