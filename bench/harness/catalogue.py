"""The loads, by name: what each is, whom it is run against, and how."""

import collections

from . import closed_loop, density, memory, open_loop

# `key` is the number of the load's first measure that a reader looks for; `unit` says what it is.
Load = collections.namedtuple("Load", "title contenders run key unit")

ALL = ["nginx", "haproxy", "envoy", "pingora", "towpath"]
HTTP2 = ["nginx", "haproxy", "envoy", "towpath"]
COST = ("us_per_request", "CPU us per request")
PER_MIB = ("us_per_mib", "CPU us per MiB")
ROUTES = [f"towpath {count}" for count in (1, 1_000, 10_000, 100_000)] + ["towpath 100000 calling 1000"]

LOADS = {
    "http1": Load("(a) HTTP/1.1 keep-alive, small GET", ALL, closed_loop.http1, *COST),
    "post": Load("(b) HTTP/1.1 keep-alive, POST of 1 KiB", ["nginx", "haproxy", "envoy", "towpath"], closed_loop.post, *COST),
    "http2": Load("(c) HTTP/2 to HTTP/2, small GET (nginx: to HTTP/1.1)", HTTP2, closed_loop.http2, *COST),
    "grpc": Load("(d) gRPC unary", HTTP2, closed_loop.grpc, *COST),
    "download": Load("(f) answers of 10 MiB", ["nginx", "haproxy", "envoy", "towpath"], closed_loop.download, *PER_MIB),
    "upload": Load("(f) requests of 10 MiB", ["nginx", "haproxy", "envoy", "towpath"], closed_loop.upload, *PER_MIB),
    "connections": Load("(g) a new connection per request", ALL, closed_loop.new_connections, *COST),
    "routes": Load("(h) 1 to 100,000 routes", ROUTES, closed_loop.routes, *COST),
    "services": Load("(i) 10,000 services of 5 endpoints", ["towpath"], closed_loop.services, *COST),
    "latency": Load("(j) HTTP/1.1 at half of nginx's maximum", ALL, open_loop.fixed_rate, "p99_us", "p99 us"),
    "reload": Load("(k) reload of 10,000 routes under load", ["nginx", "towpath"], open_loop.reload, "effective_ms",
                   "ms until effective"),
    "density": Load("(l) 30 workloads: 30 Envoy sidecars, or one towpath", ["envoy", "towpath"], density.density,
                    "us_per_request", "CPU us per request"),
    "memory": Load("memory", ALL, memory.memory, "empty_kib", "KiB when empty"),
}

NOT_RUN = "(e) TLS to HTTP/1.1: not run, towpath does not speak TLS yet"
# A round of memory takes long, and its numbers hardly spread.
FEW_ROUNDS = {"memory": 3, "density": 5}


def contenders(name, peers):
    """Those of the load that were asked for; towpath always."""
    return [who for who in LOADS[name].contenders if who.startswith("towpath") or who in peers]


def listing():
    width = max(map(len, LOADS))
    lines = [f"{name:{width}}  {load.title}: {', '.join(load.contenders)}" for name, load in LOADS.items()]
    return "\n".join([*lines, NOT_RUN])
