"""A mapping is a description, and a producer's own types are inputs: what reaches the ledger."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from jaas_submit import JobSpec
from tests.support.twins import TWINS, client_of


@pytest.mark.parametrize("kind", TWINS)
def test_what_reaches_the_ledger(redis_url: str, prefix: str, kind: str) -> None:
    with client_of(kind, redis_url, prefix=prefix, queue=prefix) as client:
        handle = client.submit({"image": "alpine"}, input={"day": date(2026, 11, 30), "price": Decimal("1.5")})
        assert handle.record().spec == JobSpec(image="alpine", input={"day": "2026-11-30", "price": "1.5"})
        (many,) = client.submit_many([{"image": "busybox"}])
        assert many.record().spec == JobSpec(image="busybox")
        batch = client.map({"image": "alpine", "command": ["{item}"]}, [Decimal("1.5"), date(2026, 11, 30)])
        commands = [record.spec and record.spec.command for record in batch.records()]
        assert commands == [("1.5",), ("2026-11-30",)]
