"""Every Celery setting that differs from the default, with its reason. Nothing else configures Celery."""

from __future__ import annotations

from typing import Any

from tasks import redis_client

# The task and its constant `argsrepr`: events and Flower show this text in place of the arguments, and it must not
# be empty, because Celery falls back to the real ones then.
INFER = "tasks.infer"
ARGSREPR = "(ids only)"

# Installs: plain JSON arguments, shown as they are; they are the only tasks with a result (docs/operations.md).
INSTALL = "tasks.install_model"
UNINSTALL = "tasks.uninstall_model"
PROGRESS = "PROGRESS"
AGENT_NAME = "install@{node}"  # the Celery worker that runs them
CANCEL_INSTALL = "cancel_install"  # its control command
RESULT_TTL_S = 24 * 3600

UNROUTED_QUEUE = "pendra.unrouted"


def configuration(redis_url: str) -> dict[str, Any]:
    """Celery's configuration for the Redis at `redis_url` (our form, see `redis_client`). Pure."""
    url = redis_client.celery_url(redis_url)
    return {"broker_url": url, "result_backend": url, **_CONNECTION, **_DELIVERY, **_RESULTS, **_WORKER, **_PRIVACY}


_CONNECTION: dict[str, Any] = {
    # Redis may start after us and may be away for as long as it likes; the default gives up after 100 tries.
    "broker_connection_retry_on_startup": True,
    "broker_connection_retry": True,
    "broker_connection_max_retries": None,
    "broker_transport_options": {
        # Without a timeout a frozen server blocks `apply_async` and the consumer for ever.
        "socket_timeout": redis_client.SOCKET_TIMEOUT_S,
        "socket_connect_timeout": redis_client.CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": redis_client.HEALTH_CHECK_S,
        # A repeated LPUSH after a timeout would enqueue twice.
        "retry_on_timeout": False,
        # No copy of what was popped in Redis, so no redelivery after a timeout: the bridge knows better.
        "ack_emulation": False,
    },
    # Whoever enqueues keeps its own list of what is to be sent (the bridge's scheduler) and must hear at once that
    # it did not work; Celery's default retries for seconds inside the call.
    "task_publish_retry": False,
    # A message that is running must go on when the connection is lost: its events do not need the broker.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # After a reconnect Celery would take tasks one at a time "to be careful"; we ack at once, so nothing is held.
    "worker_enable_prefetch_count_reduction": False,
}

_DELIVERY: dict[str, Any] = {
    "include": ["tasks.infer", "tasks.install"],
    # Early ack: the bridge brings a dead worker's jobs back. A late ack would run them twice (visibility timeout,
    # reconnect), and a worker with unacked messages does not survive the loss of Redis (celery 5.7).
    "task_acks_late": False,
    # One message per free slot, none in reserve: an idle worker must find what a busy one cannot start.
    # disable_prefetch alone leaves a freed slot idle until the consumer's BRPOP ends (1 s); with task events on, the
    # event of the finished task wakes the consumer (2–3 ms).
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    "worker_send_task_events": True,
    # Results of jobs travel as their events (`tasks.events`). Only installs store a state, for whoever asked.
    "task_ignore_result": True,
    # `model.<m>` and `worker.<w>` queues come and go with models and workers.
    "task_create_missing_queues": True,
    # What somebody enqueues without naming a queue must not land where a worker of another kind takes it.
    "task_default_queue": UNROUTED_QUEUE,
}

_RESULTS: dict[str, Any] = {
    "result_expires": RESULT_TTL_S,
    # A state that cannot be stored must not hold an install for the default's 20 s each time.
    "result_backend_transport_options": {
        "retry_policy": {"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5}
    },
    "redis_socket_timeout": redis_client.SOCKET_TIMEOUT_S,
    "redis_socket_connect_timeout": redis_client.CONNECT_TIMEOUT_S,
    "redis_retry_on_timeout": False,
}

_WORKER: dict[str, Any] = {
    # The engine lives in the process: threads wait for it, forks would each need a model of their own.
    # `worker.program` refuses any other pool.
    "worker_pool": "threads",
    "worker_consumer": "worker.consumer:Consumer",
    "worker_enable_remote_control": True,  # `celery inspect`, Flower
    # Logging is set up once, by `tasks.logs`; Celery must neither replace it nor capture stdout.
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "worker_log_color": False,
}

_PRIVACY: dict[str, Any] = {
    # JSON only: nothing that arrives can run code.
    "task_serializer": "json",
    "result_serializer": "json",
    "event_serializer": "json",
    "accept_content": ["json"],
    "result_accept_content": ["json"],
    # `inspect active` shows raw task arguments and events carry tracebacks: arguments are ids and sizes only, and
    # `tasks.infer` never raises. Not sending a second event per enqueue keeps them out of the sender, too.
    "task_send_sent_event": False,
    "task_remote_tracebacks": False,
}
