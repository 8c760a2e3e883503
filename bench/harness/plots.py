"""The plots of a run: CPU as ratios to each peer, memory, latency. Files of the run's directory."""

from .catalogue import LOADS
from .drawing import Bar, Panel, card
from .statistic import Spread, ratio, spread

RATIOS = ["http1", "post", "http2", "grpc", "download", "upload", "connections", "density"]
HEADINGS = {"http1": "(a) HTTP/1.1, small GET", "post": "(b) HTTP/1.1, POST of 1 KiB", "http2": "(c) HTTP/2 to HTTP/2",
            "grpc": "(d) gRPC unary", "download": "(f) answers of 10 MiB, per MiB", "upload": "(f) requests of 10 MiB, per MiB",
            "connections": "(g) a connection per request", "density": "(l) 30 workloads, against 30 Envoys"}
MEMORY = [("memory", "empty_kib", "empty, MiB", 1024), ("memory", "under_load_kib", "under load (a), MiB", 1024),
          ("memory", "idle_h1_kib_each", "each idle HTTP/1.1 connection, KiB", 1),
          ("memory", "idle_h2_kib_each", "each idle HTTP/2 connection, KiB", 1),
          ("memory", "after_burst_10s_kib", "10 s after a burst of connections, MiB", 1024),
          ("density", "memory_kib", "30 workloads: one towpath, or 30 Envoys, MiB", 1024)]
LATENCY = [("latency", "p50_us", "p50, us"), ("latency", "p99_us", "p99, us"), ("latency", "p999_us", "p99.9, us"),
           ("density", "p99_us", "30 workloads: p99, us")]


def cpu(results):
    panels = []
    for load in RATIOS:
        found = [(peer, ratio(results, load, LOADS[load].key, "towpath", peer)) for peer in results.proxies(load)
                 if peer != "towpath"]
        bars = [Bar(peer, peer, value) for peer, value in sorted(found) if value]
        if bars:
            panels.append(Panel(HEADINGS[load], bars, "{:.2f} x", 1, None))
    end = max([1.1] + [bar.spread.highest for panel in panels for bar in panel.bars])
    panels = [panel._replace(most=end) for panel in panels]  # one scale: the line is in one place
    note = ("towpath's CPU time as a multiple of each peer's: median of the rounds, whiskers to the lowest and the highest. "
            "Left of the line: cheaper.")
    return "CPU per request, towpath / peer", note, panels


def memory(results):
    panels = [values(results, load, metric, title, size, "{:,.1f}") for load, metric, title, size in MEMORY]
    return ("Memory", "Proportional set size, all processes of a proxy; median, lowest and highest round.",
            [panel for panel in panels if panel.bars])


def latency(results):
    panels = [values(results, load, metric, title, 1, "{:,.0f}") for load, metric, title in LATENCY]
    note = "At a fixed rate, half of nginx's maximum; counted from when a request was due (no coordinated omission)."
    return "Latency at the same rate", note, [panel for panel in panels if panel.bars]


def values(results, load, metric, title, size, form):
    """A panel of one metric, towpath first."""
    found = [(proxy != "towpath", proxy, spread(results.values(load, proxy, metric))) for proxy in results.proxies(load)]
    bars = [Bar(proxy, proxy, Spread(*(value / size for value in found[:3]), found.rounds))
            for _, proxy, found in sorted(found, key=lambda one: one[:2]) if found]
    return Panel(title, bars, form, None, None)


PLOTS = [("cpu.svg", "CPU per request", cpu), ("memory.svg", "Memory", memory), ("latency.svg", "Latency", latency)]


def write(results):
    """Those plots for which there are results."""
    for file, _, plot in PLOTS:
        title, note, panels = plot(results)
        if panels:
            (results.directory / file).write_text(card(title, note, panels))
