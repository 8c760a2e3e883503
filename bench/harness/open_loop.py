"""Loads at a fixed rate: latency, undisturbed and while 10,000 routes are reloaded."""

import os
import signal
import socket
import statistics
import time

from . import many
from .clients import latencies, openloop, openloop_said, percentiles
from .closed_loop import http1
from .cost import cpu_seconds
from .processes import NotThere, call, end, start_client
from .proxies import started, towpath_command

CONNECTIONS = 64
SHARE_OF_NGINX = 0.5
ROUTES = 10_000
OTHER = b"the other body"


def rate(stage):
    """Half of what nginx answers at most; from the results of load http1, else measured now."""
    if not stage.nginx_maximum:
        known = stage.results.values("http1", "nginx", "requests_per_second")
        stage.nginx_maximum = statistics.median(known) if known else http1(stage, "nginx")["requests_per_second"]
        print(f"  nginx answers {stage.nginx_maximum:.0f} requests/s at most", flush=True)
    return SHARE_OF_NGINX * stage.nginx_maximum


def fixed_rate(stage, contender):
    per_second = rate(stage)
    with started(stage, contender) as proxy:
        requests = stage.write("requests", f"127.0.0.1:{proxy.port} h1.bench /\n")

        def run(seconds):
            command = openloop(stage.programs.openloop, requests, per_second, seconds, CONNECTIONS, stage.work / "latencies")
            return openloop_said(call(command, seconds + 60))

        run(1)
        before = cpu_seconds(proxy.pids)
        count, failed, lag = run(stage.options.seconds)
        cpu = sum(cpu_seconds(proxy.pids)) - sum(before)
    return dict(percentiles(latencies(stage.work / "latencies")), requests=count, failed=failed, lag_p99_us=lag,
                rate=per_second, us_per_request=cpu * 1e6 / count)


def reload(stage, contender):
    """Half of the time undisturbed, then a reload each second; a probe asks a route that changes with each."""
    make = many.towpath_routes if contender == "towpath" else many.nginx_routes
    configs = [make(stage, ROUTES, changed_to_other=changed) for changed in (False, True)]
    name = f"reload-{contender}.conf"
    file, half = stage.write(name, configs[0]), max(3, stage.options.seconds)
    with started(stage, contender, reload_command(stage, contender, file)) as proxy:
        turns = [f"127.0.0.1:{proxy.port} {turn}" for turn in many.route_turns(ROUTES)]
        requests = stage.write("requests", "\n".join(turns) + "\n")
        out, program = stage.work / "latencies", stage.programs.openloop
        openloop_said(call(openloop(program, requests, rate(stage), 1, CONNECTIONS, out), 60))  # warm
        client = start_client(openloop(program, requests, rate(stage), 2 * half, CONNECTIONS, out))
        try:
            time.sleep(half + 0.3)
            effective = [one_reload(stage, proxy, name, configs[n % 2], n % 2 == 1) for n in range(1, half)]
            said, _ = client.communicate(timeout=60)
        finally:
            end(client)
    return reload_metrics(openloop_said(said), out, half * 1_000_000, effective)


def reload_command(stage, contender, file):
    if contender == "towpath":
        return towpath_command(stage, file)
    return ["nginx", "-e", stage.work / "proxy-nginx.log", "-p", stage.work, "-c", file]


def reload_metrics(said, file, half_us, effective):
    calm, disturbed = percentiles(latencies(file, 0, half_us)), percentiles(latencies(file, half_us))
    return {"requests": said[0], "failed": said[1], "lag_p99_us": said[2], "p99_calm_us": calm["p99_us"],
            "p99_reload_us": disturbed["p99_us"], "p99_ratio": disturbed["p99_us"] / calm["p99_us"],
            "p999_calm_us": calm["p999_us"], "p999_reload_us": disturbed["p999_us"],
            "effective_ms": statistics.median(effective), "effective_most_ms": max(effective)}


def one_reload(stage, proxy, name, text, wanted):
    """Milliseconds from the signal until the route answers as in `text`, from the other backend if `wanted`."""
    stage.write(name, text)
    begun = time.monotonic()
    os.kill(proxy.pids[0], signal.SIGHUP)
    with Probe(proxy.port) as probe:
        while probe.is_other() != wanted:
            if time.monotonic() - begun > 10:
                raise NotThere("the reload has had no effect after 10 s")
            time.sleep(0.0005)
    took = time.monotonic() - begun
    time.sleep(max(0.0, 0.9 - took))
    return took * 1000


class Probe:
    """One keep-alive connection that asks the route which a reload changes."""

    def __init__(self, port):
        self.port, self.sock = port, None
        turn = f"host-{(ROUTES - 1) // many.PATHS_OF_A_HOST}.bench", f"/part-{(ROUTES - 1) % many.PATHS_OF_A_HOST}/item"
        self.request = "GET {1} HTTP/1.1\r\nHost: {0}\r\n\r\n".format(*turn).encode()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.sock:
            self.sock.close()

    def is_other(self):
        for _ in range(3):  # a connection that a reload closes is opened again
            try:
                self.sock = self.sock or socket.create_connection(("127.0.0.1", self.port), 10)
                self.sock.sendall(self.request)
                received = b""
                while not received.endswith(b"as always\n"):
                    data = self.sock.recv(4096)
                    if not data:
                        raise ConnectionResetError
                    received += data
                return OTHER in received
            except ConnectionError:
                self.sock.close()
                self.sock = None
        raise NotThere("the probe's connections are closed")
