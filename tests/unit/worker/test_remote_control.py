"""Which of Celery's commands a worker carries out."""

from __future__ import annotations

from celery.worker.control import Panel

from jaas_worker.app import create_app
from jaas_worker.messaging.remote_control import ALLOWED, REFUSED
from jaas_worker.settings import Settings


def test_every_command_of_celery_is_either_carried_out_or_refused() -> None:
    """A newer Celery may have more: somebody has to decide about them."""
    assert set(Panel.meta) == ALLOWED | REFUSED.keys()
    assert not ALLOWED & REFUSED.keys()


def test_a_setting_turns_commands_and_events_off() -> None:
    for on in (True, False):
        conf = create_app(Settings(redis_url="redis://nowhere/0", remote_control=on)).conf
        assert [conf.worker_enable_remote_control, conf.worker_send_task_events, conf.task_send_sent_event] == [on] * 3
