"""Thirty workloads on one host that each call five services: thirty Envoy sidecars, or one towpath. The same calls."""

import contextlib
import time

from . import many
from .clients import latencies, openloop, openloop_said, percentiles
from .cost import connections_to, cpu_seconds, memory_kib
from .processes import PROXY_CPU, call, end, free_ports, running, start_client
from .proxies import envoy_command, started, towpath_command

WORKLOADS = 30
CALLED = 5
RATE = 3000  # requests/s of the whole host: 20 for each pair of workload and service; thirty sidecars on one CPU can still do it
CONNECTIONS_OF_A_WORKLOAD = 4


def services(stage):
    return [(f"service-{n}", port) for n, port in enumerate(stage.many[:WORKLOADS])]


def called_by(workload, everything):
    return [everything[(workload + n) % WORKLOADS] for n in range(1, CALLED + 1)]


@contextlib.contextmanager
def sidecars(stage):
    """(pids, the port of each workload) of thirty Envoys."""
    ports, everything = free_ports(WORKLOADS), services(stage)
    with contextlib.ExitStack() as stack:
        pids = []
        for workload, port in enumerate(ports):
            config = stage.write(f"sidecar-{workload}.yaml", many.sidecar(port, called_by(workload, everything)))
            command = envoy_command(stage, config, workload + 1)
            pids.append(stack.enter_context(running(command, PROXY_CPU, stage.log(f"sidecar-{workload}"), port)))
        yield pids, ports


@contextlib.contextmanager
def one_towpath(stage):
    config = stage.write("mesh.toml", many.towpath_mesh(stage, services(stage)))
    with started(stage, "towpath", towpath_command(stage, config)) as proxy:
        yield proxy.pids, [proxy.port] * WORKLOADS


def density(stage, contender):
    everything = services(stage)
    with (one_towpath if contender == "towpath" else sidecars)(stage) as (pids, ports):
        calls = [(workload, called_by(workload, everything)[n][0]) for n in range(CALLED) for workload in range(WORKLOADS)]
        lines = [f"127.0.0.1:{ports[workload]} {name}.bench /" for workload, name in calls]
        requests = stage.write("requests", "\n".join(lines) + "\n")
        connections = CONNECTIONS_OF_A_WORKLOAD * WORKLOADS // len(set(ports))
        return under_calls(stage, pids, requests, connections)


def under_calls(stage, pids, requests, connections):
    """Warm, then the calls; memory and connections are looked at while they run."""
    out, seconds = stage.work / "latencies", stage.options.seconds
    program = stage.programs.openloop
    openloop_said(call(openloop(program, requests, RATE, 2, connections, out), 60))
    idle, before = memory_kib(pids), cpu_seconds(pids)
    client = start_client(openloop(program, requests, RATE, seconds, connections, out))
    try:
        time.sleep(seconds * 0.7)
        memory, upstream = memory_kib(pids), connections_to(stage.many)
        count, failed, lag = openloop_said(client.communicate(timeout=60)[0])
    finally:
        end(client)
    cpu = sum(cpu_seconds(pids)) - sum(before)
    return dict(percentiles(latencies(out)), requests=count, failed=failed, lag_p99_us=lag, memory_kib=memory,
                memory_after_warming_kib=idle, upstream_connections=upstream, cpu_seconds=cpu,
                us_per_request=cpu * 1e6 / count)
