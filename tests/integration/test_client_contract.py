"""The suite of all clients, with a real worker; tests/unit/testing runs the same with the clients in memory."""

from __future__ import annotations

import pytest

from tests.support.client_contract import ClientContract


@pytest.mark.usefixtures("worker")
class TestRealClient(ClientContract):
    pass
