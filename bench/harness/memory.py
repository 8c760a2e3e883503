"""Memory as proportional set size: empty, under load, for idle connections, and after they have gone."""

import time

from . import idle
from .clients import wrk
from .cost import memory_kib
from .processes import end, start_client
from .proxies import started

SETTLE_SECONDS = 1
LATER_SECONDS = 10


def memory(stage, contender):
    metrics = dict(http1_and_burst(stage, contender), failed=0)
    if contender != "pingora":  # takes HTTP/1.1 only
        metrics["idle_h2_kib_each"] = idle_http2(stage, contender)
    metrics["under_load_kib"] = under_load(stage, contender)
    return metrics


def http1_and_burst(stage, contender):
    count = stage.options.connections
    with started(stage, contender) as proxy:
        time.sleep(SETTLE_SECONDS)
        empty = memory_kib(proxy.pids)
        with idle.connections(proxy.port, count, over_http2=False):
            time.sleep(SETTLE_SECONDS)
            held = memory_kib(proxy.pids)
        time.sleep(0.1)
        gone = memory_kib(proxy.pids)
        time.sleep(2 if stage.options.quick else LATER_SECONDS)
        later = memory_kib(proxy.pids)
    return {"connections": count, "empty_kib": empty, "idle_h1_kib_each": (held - empty) / count,
            "after_burst_kib": gone, "after_burst_10s_kib": later}


def idle_http2(stage, contender):
    count = stage.options.connections
    with started(stage, contender) as proxy:
        time.sleep(SETTLE_SECONDS)
        empty = memory_kib(proxy.pids)
        with idle.connections(proxy.port_h2, count, over_http2=True):
            time.sleep(SETTLE_SECONDS)
            return (memory_kib(proxy.pids) - empty) / count


def under_load(stage, contender):
    with started(stage, contender) as proxy:
        client = start_client(wrk(proxy.port, 3))
        try:
            time.sleep(2.5)
            return memory_kib(proxy.pids)
        finally:
            client.communicate(timeout=30)
            end(client)
