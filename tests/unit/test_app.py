"""What the worker's app does about memory, and what the image leaves to glibc."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import signals

from jaas_worker.app import create_app
from jaas_worker.settings import Settings


@pytest.mark.usefixtures("_thawed")
def test_what_the_start_has_made_is_left_out_of_garbage_collections() -> None:
    with create_app(Settings()):
        assert not gc.get_freeze_count()
        signals.worker_ready.send(sender=None)
        assert gc.get_freeze_count() > 10_000


@pytest.fixture
def _thawed() -> Iterator[None]:
    gc.unfreeze()
    yield
    gc.unfreeze()


def test_the_image_tells_glibc_to_give_memory_back() -> None:
    text = (Path(__file__).parents[2] / "docker" / "worker.Dockerfile").read_text(encoding="utf-8")
    _, final_stage = text.rsplit("FROM ", 1)
    assert "MALLOC_MMAP_THRESHOLD_=131072 MALLOC_ARENA_MAX=2" in final_stage
