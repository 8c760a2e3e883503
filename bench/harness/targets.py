"""The limits that towpath is held to, and whether a run met them."""

import collections

from .statistic import median, ratio

# `measured` is None when the run has no answer; `failed` says how many requests failed behind it.
Target = collections.namedtuple("Target", "what limit measured unit failed")

# load, metric, {peer: towpath's cost at most, as a multiple of the peer's}
MULTIPLES = [
    ("(a) small HTTP/1.1, CPU per request", "http1", "us_per_request", {"nginx": 1.05, "haproxy": 1.05, "pingora": 0.62, "envoy": 0.35}),
    ("(c) HTTP/2 to HTTP/2, CPU per request", "http2", "us_per_request", {"haproxy": 1.10, "nginx": 0.55, "envoy": 0.35}),
    ("(f) answers of 10 MiB, CPU per byte", "download", "us_per_mib", {"haproxy": 1.0}),
    ("(f) requests of 10 MiB, CPU per byte", "upload", "us_per_mib", {"haproxy": 1.0}),
    # "No peer is lower by more than 10 %": the peer is at least 0.9 of towpath.
    ("(j) p99 at the fixed rate", "latency", "p99_us", {"nginx": 1 / 0.9, "haproxy": 1 / 0.9, "envoy": 1 / 0.9, "pingora": 1 / 0.9}),
    ("(l) density against 30 sidecars, memory", "density", "memory_kib", {"envoy": 1 / 50}),
    ("(l) density against 30 sidecars, CPU", "density", "us_per_request", {"envoy": 1 / 3}),
]

# load, contender, metric, limit in `unit`, how many of the metric make one unit
FIGURES = [
    ("empty daemon", "memory", "towpath", "empty_kib", 12, "MiB", 1024),
    ("idle HTTP/1.1 connection, of 10,000", "memory", "towpath", "idle_h1_kib_each", 8, "KiB", 1),
    ("10,000 services x 5 endpoints, called", "services", "towpath", "used_kib", 100, "MiB", 1024),
    ("(k) reload of 10,000 routes: effective", "reload", "towpath", "effective_ms", 50, "ms", 1),
    ("(k) reload of 10,000 routes: p99 against undisturbed", "reload", "towpath", "p99_ratio", 1.2, "x", 1),
]


def targets(results):
    found = []
    for what, load, metric, limits in MULTIPLES:
        for peer, limit in limits.items():
            found.append(multiple(results, what, load, metric, peer, limit))
    found.insert(7, Target("(e) TLS to HTTP/1.1", 0.95, None, "x nginx", 0))
    found.append(routes(results))
    for what, load, proxy, metric, limit, unit, size in FIGURES:
        value = median(results, load, proxy, metric)
        found.append(Target(what, limit, None if value is None else value / size, unit, results.failed(load, proxy)))
    lost = median(results, "reload", "towpath", "failed")
    found.append(Target("(k) reload of 10,000 routes: failed requests", 0,
                        None if lost is None else results.failed("reload", "towpath"), "requests", 0))
    return found


def multiple(results, what, load, metric, peer, limit):
    found = ratio(results, load, metric, "towpath", peer)
    name = f"x {peer}" if load != "density" else "x 30 Envoys"
    return Target(what, limit, found and found.median, name, results.failed(load, "towpath") + results.failed(load, peer))


def routes(results):
    found = ratio(results, "routes", "us_per_request", "towpath 100000", "towpath 1")
    return Target("(h) 100,000 routes against 1, CPU per request", 1.10, found and found.median, "x",
                  results.failed("routes", "towpath 100000") + results.failed("routes", "towpath 1"))


def verdict(target):
    if target.measured is None:
        return "not measured"
    if target.failed:
        return f"does not count: {target.failed} failed requests"
    return "met" if target.measured <= target.limit else "**missed**"


def table(results):
    lines = ["| load | at most | measured | |", "|---|---|---|---|"]
    for target in targets(results):
        measured = "-" if target.measured is None else f"{number(target.measured)} {target.unit}"
        lines.append(f"| {target.what} | {number(target.limit)} {target.unit} | {measured} | {verdict(target)} |")
    return lines


def number(value):
    if value == int(value):
        return f"{int(value)}"
    return f"{value:.3f}" if abs(value) < 0.1 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
