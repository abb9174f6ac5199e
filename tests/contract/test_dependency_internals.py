"""Every internal of Celery, kombu, redis-py, docker-py and Flower that jaas leans on, its shape, and who needs it for what.

An internal is what its project does not document: names with an underscore, methods that are overridden, attributes of
classes that users are not meant to know, scripts and keys in Redis. `scripts/newest` runs this against new releases. A
row that fails says where to look before the bound in pyproject.toml is raised; a checksum (``#``) is of source that jaas
has written anew and must follow. tests/support/internals.py says how shapes are written.

What a producer needs of them stands at the end, each with its reason.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import jaas_submit
import jaas_worker
from tests.support.internals import shape

ROOT = Path(__file__).parents[2]
THEIRS = ("billiard", "celery", "docker", "flower", "kombu", "redis", "requests", "tornado", "urllib3")

Rows = dict[str, str]

INTERNALS: dict[tuple[str, str], Rows] = {
    (
        "jaas_worker.messaging.redis_transport",
        "a script takes messages off the queues in one step, instead of BRPOP and a second command",
    ): {
        "kombu.transport.redis.Channel._brpop_start": "(self, timeout=None) #b8c18935",
        "kombu.transport.redis.Channel._brpop_read": "(self, **options) #f073dbcb",
        "kombu.transport.redis.Channel._in_poll": "= False",
        "kombu.transport.redis.Channel._brpop_sent_at": "= None",
        "kombu.transport.redis.Channel._flush_brpop_reauth": "(self)",
        "kombu.transport.redis.Channel._queue_cycle": "self._queue_cycle = cycle_by_name(self.queue_order_strategy)()",
        "kombu.transport.redis.Channel.active_queues": "property",
        "kombu.transport.redis.Channel.brpop_timeout": "self.brpop_timeout = self.connection.brpop_timeout",
        "kombu.transport.redis.Channel.unacked_key": "= 'unacked'",
        "kombu.transport.redis.Channel.unacked_index_key": "= 'unacked_index'",
        "kombu.transport.redis.Channel.client": "cached property",
        "kombu.transport.redis.Channel.connection_errors": "self.connection_errors = self.connection.connection_errors",
        "kombu.transport.redis.Channel.ResponseError": "self.ResponseError = self._get_response_error()",
        "kombu.transport.redis.Channel.basic_consume": "(self, queue, *args, **kwargs)",
        "redis.Redis.parse_response": "(self, connection, command_name, **options)",
        "redis.Redis.connection": "self.connection = None",
        "redis.connection.Connection.send_command": "(self, *args, **kwargs)",
        "kombu.utils.scheduling.round_robin_cycle.consume": "(self, n)",
        "kombu.utils.scheduling.round_robin_cycle.rotate": "(self, last_used)",
        "kombu.utils.encoding.bytes_to_str": "(s)",
        "kombu.utils.json.loads": "(s, _loads=..., decode_bytes=True, object_hook=...)",
    },
    (
        "jaas_worker.messaging.unacknowledged",
        "what the script has noted as unacknowledged is not noted again, and is put back only over a connection",
    ): {
        "kombu.transport.redis.Channel.QoS": "class (*args, **kwargs)",
        "kombu.transport.redis.QoS.append": "(self, message, delivery_tag)",
        "kombu.transport.virtual.QoS.append": "(self, message, delivery_tag)",
        "kombu.transport.virtual.QoS.can_consume": "(self)",
        "kombu.transport.redis.QoS.restore_unacked": "(self, client=None) #4cd1df39",
        "kombu.transport.virtual.QoS.restore_unacked_once": "(self, stderr=None) #31b570ae",
        "kombu.transport.virtual.QoS.channel": "self.channel = channel",
    },
    (
        "jaas_worker.messaging.unacknowledged",
        "notes of a form of their own are put back, and counted, by scripts of their own",
    ): {
        "kombu.transport.redis.QoS.ack": "(self, delivery_tag) #a6a293d9",
        "kombu.transport.redis.QoS.reject": "(self, delivery_tag, requeue=False) #93af6bf8",
        "kombu.transport.virtual.QoS.ack": "(self, delivery_tag)",
        "kombu.transport.redis.QoS.restore_by_tag": "(self, tag, client=None, leftmost=False) #6224c9d1",
        "kombu.transport.redis.QoS.restore_visible": "(self, start=0, num=10, interval=10) #6da9e6fe",
        "kombu.transport.redis.QoS._remove_from_indices": "(self, delivery_tag, pipe=None)",
        "kombu.transport.virtual.QoS._delivered": "= None",
        "kombu.transport.virtual.QoS._dirty": "= None",
        "kombu.transport.redis.QoS.unacked_key": "cached property",
        "kombu.transport.redis.QoS.unacked_index_key": "cached property",
        "kombu.transport.redis.QoS.visibility_timeout": "cached property",
        "kombu.transport.redis.Channel.conn_or_acquire": "(self, client=None)",
        "kombu.transport.redis.Channel.ResponseError": "self.ResponseError = self._get_response_error()",
    },
    (
        "jaas_worker.messaging.redis_transport",
        "messages of dead workers are looked for in each channel, whatever Redis answers",
    ): {
        "kombu.transport.redis.MultiChannelPoller.maybe_restore_messages": "(self) #ae6f9ac2",
        "kombu.transport.redis.Channel.unacked_restore_limit": "= None",
        "kombu.transport.redis.Channel.qos": "property",
    },
    (
        "jaas_worker.messaging.redis_transport",
        "a bad broadcast, or a queue's list that is none, does not end the worker",
    ): {
        "kombu.transport.redis.Channel._receive_one": "(self, c) #91c1b7e9",
        "kombu.transport.redis.Channel._handle_message": "(self, client, r)",
        "kombu.transport.redis.Channel._fanout_to_queue": "self._fanout_to_queue = {}",
        "kombu.transport.redis.Channel._in_listen": "= False",
        "kombu.transport.redis.Channel._size": "(self, queue)",
    },
    (
        "jaas_worker.messaging.redis_transport",
        "one dead connection is noticed soon, and the others are dropped with it",
    ): {
        "kombu.transport.redis.MultiChannelPoller.maybe_check_brpop_health": "(self) #8debf3ba",
        "kombu.transport.redis.MultiChannelPoller._channels": "self._channels = set()",
        "kombu.transport.redis.Channel.health_check_interval": "= 25",
        "kombu.transport.redis.Transport.cycle": "= None",
        "kombu.transport.redis.Channel._pool": "= None",
        "kombu.transport.redis.Channel._async_pool": "= None",
        "kombu.transport.redis.Channel.pool": "property",
        "kombu.transport.redis.Channel._connparams": "(self, asynchronous=False)",
        "kombu.transport.redis.Channel._create_client": "(self, asynchronous=False)",
        "redis.connection.Connection._sock": "self._sock = None",
        "redis.ConnectionPool.disconnect": "(self, inuse_connections=True)",
    },
    ("jaas_worker.messaging.redis_transport", "an entry that is no message is recorded, and does not end the worker"): {
        "kombu.transport.virtual.Transport._deliver": "(self, message, queue)",
        "kombu.transport.virtual.Transport.channels": "= None",
        "kombu.transport.virtual.Channel.Message": "class (payload, channel=None, **kwargs)",
        "kombu.transport.redis.Transport.Channel": "class (*args, **kwargs)",
        "kombu.transport.virtual.Message": "class (payload, channel=None, **kwargs)",
    },
    ("jaas_worker.messaging.sentinel_transport", "over Sentinel each new connection goes to the present master"): {
        "kombu.transport.redis.SentinelChannel._sentinel_managed_pool": "(self, asynchronous=False) #2cd6dc8e",
        "kombu.transport.redis.SentinelChannel._sentinel_manager": "self._sentinel_manager = sentinel_inst",
        "kombu.transport.redis.SentinelChannel._async_sentinel_manager": "self._async_sentinel_manager = sentinel_inst",
        "kombu.transport.redis.SentinelChannel.connection_class": "class (**kwargs)",
        "kombu.transport.redis.SentinelChannel.connection_class_ssl": "class (**kwargs)",
        "kombu.transport.redis.SentinelChannel.from_transport_options": "= tuple",
    },
    ("jaas_worker.messaging.consumer", "a message that is no job is recorded as a failed one"): {
        "celery.worker.consumer.Consumer.create_task_handler": "(self, promise=...) #3107b2ff",
        "celery.worker.consumer.Consumer.on_unknown_task": "(self, body, message, exc)",
        "celery.worker.consumer.Consumer.on_unknown_message": "(self, body, message)",
        "celery.worker.consumer.Consumer.on_invalid_task": "(self, body, message, exc)",
        "celery.worker.consumer.Consumer.on_decode_error": "(self, message, exc)",
        "celery.worker.consumer.Consumer.cancel_task_queue": "(self, queue)",
        "celery.worker.consumer.Consumer.connection_errors": "self.connection_errors = self.conninfo.connection_errors",
        "kombu.message.Message.ack_log_error": "(self, logger, errors, multiple=False)",
        "kombu.message.Message.requeue": "(self)",
        "kombu.message.Message.payload": "property",
    },
    ("jaas_worker.messaging.consumer", "the pool learns the consumer, and a lost connection drops all others"): {
        "celery.worker.consumer.Consumer.on_ready": "(self)",
        "celery.worker.consumer.Consumer.stop": "(self)",
        "celery.worker.consumer.Consumer.shutdown": "(self)",
        "celery.worker.consumer.Consumer.pool": "= None",
        "celery.worker.consumer.Consumer.connection": "self.connection = (self.connection, None)",
        "celery.worker.consumer.Consumer.on_connection_error_after_connected": "(self, exc)",
    },
    (
        "jaas_worker.messaging.consumer",
        "a command that fails costs no subscription, and nobody reads all others' heartbeats",
    ): {
        "celery.worker.consumer.Consumer.steps": "self.steps = []",
        "celery.worker.consumer.control.Control": "class (c, **kwargs)",
        "celery.worker.pidbox.Pidbox.reset": "(self) #2d1add6c",
        "celery.worker.consumer.gossip.Gossip": "class (c, without_gossip=False, interval=5.0, heartbeat_interval=2.0, **kwargs)",
        "celery.worker.consumer.mingle.Mingle": "class (c, without_mingle=False, **kwargs)",
    },
    ("jaas_worker.messaging.consumer", "events are published in groups, also those that a lost connection kept"): {
        "celery.worker.consumer.Consumer.on_send_event_buffered": "(self)",
        "celery.worker.consumer.Consumer._flush_events": "(self)",
        "celery.worker.consumer.Consumer.hub": "self.hub = hub",
        "celery.worker.consumer.events.Events.start": "(self, c) #a3ecc365",
        "celery.events.dispatcher.EventDispatcher._group_buffer": "self._group_buffer = defaultdict(list)",
        "celery.events.dispatcher.EventDispatcher._outbound_buffer": "self._outbound_buffer = deque()",
        "celery.events.dispatcher.EventDispatcher.flush": "(self, errors=True, groups=True)",
        "celery.events.dispatcher.EventDispatcher.extend_buffer": "(self, other)",
        "kombu.asynchronous.hub.Hub.call_later": "(self, delay, callback, *args)",
    },
    ("jaas_worker.messaging.pool", "the pool's processes are containers"): {
        "celery.concurrency.base.BasePool": "class (limit=None, putlocks=True, forking_enable=True, callbacks_propagate=(), app=None, **options)",
        "celery.concurrency.base.BasePool.signal_safe": "= True",
        "celery.concurrency.base.BasePool.body_can_be_buffer": "= False",
        "celery.concurrency.base.BasePool.task_join_will_block": "= True",
        "celery.concurrency.base.BasePool.app": "self.app = app",
        "celery.concurrency.base.BasePool.limit": "self.limit = limit",
        "celery.concurrency.base.BasePool.on_start": "(self)",
        "celery.concurrency.base.BasePool.on_stop": "(self)",
        "celery.concurrency.base.BasePool.on_terminate": "(self)",
        "celery.concurrency.base.BasePool.on_apply": "(self, *args, **kwargs)",
        "celery.concurrency.base.BasePool.terminate_job": "(self, pid, signal=None)",
        "celery.concurrency.base.BasePool.register_with_event_loop": "(self, loop)",
        "celery.concurrency.base.BasePool._get_info": "(self)",
        "celery.concurrency.base.apply_target": "(target, args=(), kwargs=None, callback=None, accept_callback=None, pid=None, getpid=..., propagate=(), monotonic=..., **_)",
        "kombu.asynchronous.hub.Hub.add_reader": "(self, fds, callback, *args)",
    },
    ("jaas_worker.messaging.pool", "a job that the ledger gives out goes the way of a received message"): {
        "celery.worker.consumer.Consumer.strategies": "self.strategies = self.Strategies()",
        "celery.worker.strategy.default.task_message_handler": "(message, body, ack, reject, callbacks, to_timestamp=to_timestamp)",
    },
    ("jaas_worker.messaging.pool", "which requests are accepted, and whether the worker is to end"): {
        "celery.worker.state.active_requests": "= set()",
        "celery.worker.state.maybe_shutdown": "()",
        "celery.worker.request.Request.worker_pid": "= None",
        "celery.worker.request.Request.name": "= member_descriptor",
    },
    ("jaas_worker.messaging.delivery", "the pool gets a request's callbacks, and calls them in Celery's order"): {
        "celery.worker.request.Request.execute_using_pool": "(self, pool, **kwargs) #b63ef23a",
        "celery.worker.request.Request.on_accepted": "(self, pid, time_accepted)",
        "celery.worker.request.Request.on_success": "(self, failed__retval__runtime, **kwargs)",
        "celery.app.trace.trace_task_ret": "(name, uuid, request, body, content_type, content_encoding, loads=..., app=None, **extra_request)",
        "celery.app.trace.trace_ok_t": "class (retval, info, runtime, retstr)",
        "billiard.einfo.ExceptionInfo": "class (exc_info=None, internal=False)",
        "billiard.einfo.ExceptionInfo.exception": "= None",
        "billiard.einfo.ExceptionWithTraceback.exc": "self.exc = exc",
    },
    ("jaas_worker.messaging.delivery", "a request is revoked, given back or forgotten as Celery does it"): {
        "celery.worker.request.Request._already_revoked": "= False",
        "celery.worker.request.Request._announce_revoked": "(self, reason, terminated, signum, expired) #969cf953",
        "celery.worker.request.Request._context": "cached property",
        "celery.worker.request.Request.acknowledge": "(self)",
        "celery.worker.request.Request.acknowledged": "= False",
        "celery.worker.request.Request.on_reject": "property",
        "celery.worker.request.Request.connection_errors": "property",
        "celery.worker.request.Request.message": "property",
        "celery.worker.request.Request.hostname": "property",
        "celery.worker.request.Request.task": "property",
        "celery.worker.request.Request.args": "property",
        "celery.worker.request.Request.kwargs": "property",
        "celery.worker.state.revoked": "= LimitedSet",
        "celery.worker.state.task_ready": "(request, successful=False, remove_request=..., discard_active_request=..., discard_reserved_request=..., discard_scheduled_request=...)",
        "celery.worker.state.task_reserved": "(request, add_request=..., add_reserved_request=..., discard_scheduled_request=...)",
    },
    ("jaas_worker.messaging.task", "a request shows no value of a job's environment, and how the job ended"): {
        "celery.app.task.Task.Request": "= 'celery.worker.request:Request'",
        "celery.worker.request.Request._kwargs": "= member_descriptor",
        "celery.worker.request.Request._argsrepr": "= member_descriptor",
        "celery.worker.request.Request._kwargsrepr": "= member_descriptor",
        "celery.worker.request.Request._request_dict": "= member_descriptor",
        "celery.worker.request.Request.info": "(self, safe=False)",
        "celery.worker.request.Request.send_event": "(self, type, **fields)",
        "celery.worker.request.Request.revoked": "(self)",
    },
    ("jaas_worker.messaging.remote_control", "revoking a job reaches further than this process"): {
        "celery.worker.control.control_command": "(**kwargs)",
        "celery.worker.control.revoke": "(state, task_id, terminate=False, signal=None, **kwargs)",
    },
    (
        "jaas_worker.messaging.result_backend",
        "Celery's scripts settle a chord, with the part's task id as the claim's token",
    ): {
        "celery.backends.redis.RedisBackend.on_chord_part_return": "(self, request, state, result, propagate=None, **kwargs) #73f51ac1",
        "celery.backends.redis.RedisBackend._chord_part_return_script": "cached property",
        "celery.backends.redis.RedisBackend._chord_claim_extend_script": "cached property",
        "celery.backends.redis.RedisBackend._chord_cleanup_script": "cached property",
        "celery.backends.redis.CHORD_PART_RETURN_LUA": "= str #c7563aa7",
        "celery.backends.redis.CHORD_CLAIM_EXTEND_LUA": "= str #bf62fa00",
        "celery.backends.redis.CHORD_CLEANUP_LUA": "= str #66a781cb",
        "celery.backends.redis.RedisBackend._chord_result_expires": "property",
        "celery.backends.redis.RedisBackend.chord_expires": "property",
        "celery.backends.redis.RedisBackend._unpack_chord_result": "(self, tup, decode, EXCEPTION_STATES=..., PROPAGATE_STATES=...)",
        "celery.backends.redis.RedisBackend.chord_error_from_stack": "(self, callback, exc=None)",
        "celery.backends.redis.RedisBackend.get_key_for_group": "(self, group_id, key='')",
        "celery.backends.redis.RedisBackend.encode": "(self, data)",
        "celery.backends.redis.RedisBackend.decode": "(self, payload)",
        "celery.backends.redis.RedisBackend.encode_result": "(self, result, state)",
        "celery.canvas.maybe_signature": "(d, app=None, clone=False)",
        "celery.result.GroupResult.restore": "(cls, id, backend=None, app=None)",
        "celery.result.GroupResult.on_ready": "self.on_ready = promise(args=(proxy(self),))",
        "celery.result.GroupResult.join_native": "(self, timeout=None, propagate=True, interval=0.5, callback=None, no_ack=True, on_message=None, on_interval=None, disable_sync_subtasks=True)",
        "celery.result.allow_join_result": "()",
    },
    (
        "jaas_worker.messaging.result_backend",
        "a failed chain fails each part of a chord in it, and only a job's own failure is one",
    ): {
        "celery.backends.redis.RedisBackend._fail_chain": "(self, chain, exc, traceback=None, store_result=True, state='FAILURE') #ddcf3d53",
        "celery.backends.redis.RedisBackend.mark_as_failure": "(self, task_id, exc, traceback=None, request=None, store_result=True, call_errbacks=True, state='FAILURE')",
        "celery.app.task.Context": "class (*args, **kwargs)",
        "celery.app.task.Context.update": "(self, *args, **kwargs)",
    },
    ("jaas_worker.messaging.result_backend", "an outcome is stored in one step, which is not repeated here"): {
        "celery.backends.redis.RedisBackend._store_result": "(self, task_id, result, state, traceback=None, request=None, **kwargs) #f43059eb",
        "celery.backends.redis.RedisBackend._get_result_meta": "(self, result, state, traceback, request, format_date=True, encode=False)",
        "celery.backends.redis.RedisBackend._MAX_STR_VALUE_SIZE": "= 536870912",
        "celery.backends.redis.RedisBackend.failure_expires": "self.failure_expires = self.expires if failure_expires is None else se",
        "celery.backends.redis.RedisBackend.expires": "self.expires = self.prepare_expires(expires, expires_type)",
        "celery.backends.redis.RedisBackend.get_key_for_task": "(self, task_id, key='')",
        "celery.backends.redis.RedisBackend.on_task_call": "(self, producer, task_id)",
        "celery.backends.redis.RedisBackend.client": "cached property",
    },
    ("jaas_worker.app", "the worker's result backend, and its queues"): {
        "celery.loaders.base.BaseLoader.override_backends": "= {}",
        "celery.app.amqp.Queues.select": "(self, include)",
        "celery.app.trace.info": "(fmt, context)",
    },
    ("jaas_worker.messaging.kept_messages", "a kept message is received again"): {
        "kombu.message.Message": "class (body=None, delivery_tag=None, content_type=None, content_encoding=None, delivery_info=None, properties=None, headers=None, postencode=None, accept=None, channel=None, **kwargs)",
        "kombu.serialization.prepare_accept_content": "(content_types, name_to_type=None)",
    },
    ("jaas_worker.swarm.http", "docker-py opens the connections and finds credentials"): {
        "docker.APIClient": "class (base_url=None, version=None, timeout=60, tls=False, user_agent=..., num_pools=None, credstore_env=None, use_ssh_client=False, max_pool_size=10)",
        "docker.APIClient.base_url": "self.base_url = base_url",
        "requests.Session.get_adapter": "(self, url)",
        "docker.transport.basehttpadapter.BaseHTTPAdapter.get_connection_with_tls_context": "(self, request, verify, proxies=None, cert=None)",
        "requests.adapters.HTTPAdapter.get_connection_with_tls_context": "(self, request, verify, proxies=None, cert=None)",
        "docker.auth.resolve_repository_name": "(repo_name)",
        "docker.auth.get_config_header": "(client, registry)",
        "docker.auth.load_config": "(config_path=None, config_dict=None, credstore_env=None)",
        "docker.auth.resolve_authconfig": "(authconfig, registry=None, credstore_env=None)",
        "docker.auth.encode_header": "(auth)",
        "urllib3.HTTPConnectionPool.urlopen": "(self, method, url, body=None, headers=None, retries=None, redirect=True, assert_same_host=True, timeout=..., pool_timeout=None, release_conn=None, chunked=False, body_pos=None, preload_content=True, decode_content=True, **response_kw)",
        "urllib3.HTTPResponse.read1": "(self, amt=None, decode_content=None)",
    },
    (
        "jaas_submit.connection.sentinel",
        "redis-py 6 to 8.1 repeats a command on the former master (redis-py #3874): the producer has to mend it as well",
    ): {
        "redis.sentinel.SentinelManagedConnection.connect": "(self)",
        "redis.asyncio.sentinel.SentinelManagedConnection.connect": "(self)",
        "redis.connection.Connection.connect_check_health": "(self, check_health=True, retry_socket_connect=True)",
        "redis.asyncio.connection.Connection.connect_check_health": "(self, check_health=True, retry_socket_connect=True)",
        "redis.asyncio.connection.Connection.is_connected": "property",
        "redis.connection.Connection.retry": "self.retry = Retry(NoBackoff(), 0)",
        "redis.retry.Retry.call_with_retry": "(self, do, fail, is_retryable=None, with_failure_count=False)",
        "redis.sentinel.SentinelConnectionPool.get_master_address": "(self)",
        "redis.asyncio.sentinel.SentinelConnectionPool.get_master_address": "(self)",
        "redis.sentinel.SentinelConnectionPool.sentinel_manager": "self.sentinel_manager = sentinel_manager",
        "redis.sentinel.Sentinel.discover_master": "(self, service_name)",
        "redis.asyncio.sentinel.Sentinel.discover_master": "(self, service_name)",
        "redis.sentinel.Sentinel.master_for": "(self, service_name, redis_class=..., connection_pool_class=..., **kwargs)",
    },
    ("jaas_submit.messaging.sentinel_results", "the same for the results that a producer reads through Celery"): {
        "celery.backends.redis.SentinelBackend.connparams": "self.connparams = {'host': _get('redis_host') or 'localhost', 'port': ",
    },
    (
        "jaas_submit.messaging.messages",
        "a record and its message are written in one step, so the producer writes kombu's form of an entry itself",
    ): {
        "kombu.transport.virtual.Channel.prepare_message": "(self, body, priority=None, content_type=None, content_encoding=None, headers=None, properties=None) #b8dd1a12",
        "kombu.transport.virtual.Channel._inplace_augment_message": "(self, message, exchange, routing_key) #07b2fc7d",
        "kombu.transport.redis.Channel._put": "(self, queue, message, **kwargs) #b1c06265",
    },
    (
        "jaas_submit.messaging.publisher",
        "who waits for Celery's result of a cancelled job is told; Celery has no documented call for it",
    ): {
        "celery.backends.base.Backend.mark_as_revoked": "(self, task_id, reason='', request=None, store_result=True, state='REVOKED')",
    },
    ("jaas_submit.connection.tls", "redis-py has no time limit for a TLS handshake of its own"): {
        "redis.connection.SSLConnection._connect": "(self)",
        "redis.asyncio.connection.SSLConnection._connect": "(self)",
    },
    ("jaas_submit.messaging.queues", "the names of a queue's lists"): {
        "kombu.transport.redis.Channel.sep": "= '\\x06\\x16'",
    },
    ("jaas_submit.dashboard.guard", "Flower has no hook for headers, nor for what happens before its pages"): {
        "flower.urls.handlers": "= list",
        "flower.urls.settings": "= dict",
        "flower.app.Flower.__init__": "(self, options=None, capp=None, events=None, io_loop=None, **kwargs) #99e50299",
        "flower.views.BaseHandler.get_current_user": "(self) #67d56941",
        "flower.views.monitor.Metrics.get": "(self)",
        "flower.views.monitor.Healthcheck.get": "(self)",
        "flower.api.BaseApiHandler.prepare": "(self)",
        "tornado.web.RequestHandler.prepare": "(self)",
        "tornado.web.RequestHandler.current_user": "property",
        "tornado.web.OutputTransform.transform_first_chunk": "(self, status_code, headers, chunk, finishing)",
        "tornado.routing.URLSpec": "class (pattern, handler, kwargs=None, name=None)",
    },
    ("jaas_submit.messaging.app", "Celery has no setting for the class of a backend"): {
        "celery.loaders.base.BaseLoader.override_backends": "= {}",
    },
}
"""Who needs them and for what: each internal's dotted name and its shape."""

ROWS = [pytest.param(name, text, id=name) for rows in INTERNALS.values() for name, text in rows.items()]
NAMES = {name.rpartition(".")[2] for rows in INTERNALS.values() for name in rows}


@pytest.mark.parametrize(("name", "expected"), ROWS)
def test_an_internal_has_the_shape_that_jaas_knows(name: str, expected: str) -> None:
    assert shape(name, body="#" in expected) == expected


# -- the table is complete, and holds nothing that is needed no more -------------------------------------------------


def sources() -> Iterator[tuple[str, ast.Module]]:
    for package in ("jaas_submit", "jaas_worker"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


OF_THE_STANDARD_LIBRARY = {"_asdict", "_exit", "_fields", "_name_", "_replace", "_value_"}


def own_names() -> set[str]:
    """Return what our own code defines; what it only annotates is there to tell mypy of a base class."""
    found: set[str] = set()
    for _, tree in sources():
        annotated = {node.target for node in ast.walk(tree) if isinstance(node, ast.AnnAssign) and node.value is None}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif (
                isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store) and node not in annotated
            ):
                found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return found


def test_no_name_with_an_underscore_is_missing() -> None:
    known = own_names() | OF_THE_STANDARD_LIBRARY | NAMES
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                assert node.attr in known, f"{path}:{node.lineno} leans on {node.attr}, which the table does not name"


def own_classes() -> Iterator[type[Any]]:
    for package in (jaas_submit, jaas_worker):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(found.name)
            yield from (cls for _, cls in inspect.getmembers(module, inspect.isclass) if cls.__module__ == found.name)


def overrides(cls: type[Any]) -> set[str]:
    """Return what a class of ours puts in the place of what it has from one of theirs."""
    theirs = [base for base in cls.__mro__ if base.__module__.partition(".")[0] in THEIRS]
    return {name for base in theirs for name in vars(cls) if name in vars(base) and not name.startswith("__")}


def test_no_overridden_method_is_missing() -> None:
    missing = {f"{cls.__qualname__}.{name}" for cls in own_classes() for name in overrides(cls) - NAMES}
    assert not missing, "overridden, and not in the table"


def test_what_is_no_longer_needed_is_not_listed() -> None:
    for (module, _), rows in INTERNALS.items():
        text = inspect.getsource(importlib.import_module(module))
        for name, expected in rows.items():
            last = name.rpartition(".")[2]
            assert last in text or "#" in expected or not last.startswith("_"), f"{module} does not need {name}"
