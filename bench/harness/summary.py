"""summary.md and README.md of a run."""

import os
import pathlib
import platform
import re
import shlex
import sys

from . import targets
from .catalogue import LOADS, NOT_RUN
from .install import ENVOY, ROOT, first_line
from .plots import PLOTS
from .statistic import ratio, spread

# Columns of the table of each load besides its key: metric, heading, how to write it.
RATE = ("requests_per_second", "requests/s", "{:,.0f}")
COLUMNS = {
    "download": [("mib_per_second", "MiB/s", "{:,.0f}"), ("requests", "bodies", "{:,.0f}")],
    "upload": [("mib_per_second", "MiB/s", "{:,.0f}"), ("requests", "bodies", "{:,.0f}")],
    "routes": [RATE, ("unused_kib", "KiB at the start", "{:,.0f}"), ("used_kib", "KiB when called", "{:,.0f}")],
    "services": [RATE, ("unused_kib", "KiB at the start", "{:,.0f}"), ("used_kib", "KiB when called", "{:,.0f}")],
    "latency": [("p50_us", "p50 us", "{:,.0f}"), ("p999_us", "p99.9 us", "{:,.0f}"), ("rate", "requests/s", "{:,.0f}"),
                ("us_per_request", "CPU us per request", "{:.2f}"), ("lag_p99_us", "client's own lag, p99 us", "{:,.0f}")],
    "reload": [("effective_most_ms", "slowest, ms", "{:.1f}"), ("p99_calm_us", "p99 us undisturbed", "{:,.0f}"),
               ("p99_reload_us", "p99 us with reloads", "{:,.0f}"), ("p99_ratio", "ratio", "{:.2f}")],
    "density": [("cpu_seconds", "CPU s", "{:.2f}"), ("memory_kib", "KiB of memory", "{:,.0f}"),
                ("upstream_connections", "upstream connections", "{:,.0f}"), ("p50_us", "p50 us", "{:,.0f}"),
                ("p99_us", "p99 us", "{:,.0f}"), ("requests", "requests", "{:,.0f}")],
    "memory": [("under_load_kib", "under load (a), KiB", "{:,.0f}"), ("idle_h1_kib_each", "each idle HTTP/1.1, KiB", "{:.2f}"),
               ("idle_h2_kib_each", "each idle HTTP/2, KiB", "{:.2f}"), ("after_burst_kib", "after the burst, KiB", "{:,.0f}"),
               ("after_burst_10s_kib", "10 s later, KiB", "{:,.0f}"), ("connections", "connections", "{:,.0f}")],
}


def summary(results):
    lines = [f"# {results.directory.name}: summary", "", "## Limits", "", *targets.table(results), ""]
    lines += [f"![{title}]({file})" for file, title, _ in PLOTS if (results.directory / file).exists()]
    for name, load in LOADS.items():
        if results.proxies(name):
            lines += ["", f"## {load.title}", "", *load_table(results, name, load)]
    lines += ["", NOT_RUN + "."]
    if results.problems:
        lines += ["", "## Not measured", "", *(f"- {' '.join(text.split())}" for text in results.problems)]
    return "\n".join(lines) + "\n"


def load_table(results, name, load):
    """A line for each proxy: the key with its spread, the ratio to towpath, and the other columns' medians."""
    columns = COLUMNS.get(name, [RATE])
    heads = ["proxy", f"{load.unit}: median", "lowest", "highest", "rounds", "towpath's share of it",
             *(heading for _, heading, _ in columns), "failed requests"]
    lines = [row(heads), row(["---"] * len(heads))]
    for proxy in results.proxies(name):
        key = spread(results.values(name, proxy, load.key))
        ours = None if proxy.startswith("towpath") else ratio(results, name, load.key, "towpath", proxy)
        share = f"{ours.median:.2f} ({ours.lowest:.2f} to {ours.highest:.2f})" if ours else ""
        cells = [proxy, *(f"{value:,.2f}" for value in key[:3]), key.rounds, share]
        failed = results.failed(name, proxy)
        lines.append(row([*cells, *(cell(results, name, proxy, column) for column in columns),
                          f"**{failed}: does not count**" if failed else 0]))
    return lines


def cell(results, name, proxy, column):
    metric, _, form = column
    found = spread(results.values(name, proxy, metric))
    return form.format(found.median) if found else "-"


def row(cells):
    return "| " + " | ".join(map(str, cells)) + " |"


def host(options, programs):
    """What this host is and what runs on it; taken before the run."""
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    changed = "" if options.towpath is None else f" (binary given: {options.towpath})"
    lines = [
        f"- CPU: {cpu[1] if cpu else platform.machine()}, {os.cpu_count()} CPUs; kernel {platform.release()}",
        f"- load before: {os.getloadavg()[0]:.2f}; open files: {os.sysconf('SC_OPEN_MAX')}",
        f"- towpath: commit {first_line('git', '-C', ROOT, 'describe', '--always', '--dirty')}{changed}",
        f"- {first_line('nginx', '-v')}; {first_line('wrk', '-v')}; {first_line('h2load', '--version')}",
    ]
    if "haproxy" in options.peers:
        lines.append(f"- {first_line('haproxy', '-v')}")
    if programs.envoy:
        lines.append(f"- {ENVOY} ({' '.join(first_line(programs.envoy, '--version').split()[-1:])})")
    if programs.pingora:
        lock = (ROOT / "bench" / "pingora" / "Cargo.lock").read_text()
        lines.append("- pingora " + re.search(r'name = "pingora-core"\nversion = "([0-9.]+)', lock)[1])
    return lines


def readme(options, directory, about, took, ended):
    lines = [f"# {directory.name}", "", f"`bench/run {shlex.join(sys.argv[1:])}`".replace(" `", "`"), "", *about,
             f"- {options.rounds} rounds of {options.seconds} s", f"- {ended}", "",
             "[summary.md](summary.md): the limits and every load. [raw.csv](raw.csv): every number of every round.", ""]
    lines += [f"- {name}: {LOADS[name].title}, {seconds:.0f} s" for name, seconds in took.items()]
    return "\n".join([*lines, "", "Configurations: bench/peers. Method: bench/README.md.", ""])
