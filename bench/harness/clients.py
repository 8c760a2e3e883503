"""The clients: wrk (HTTP/1.1), h2load (HTTP/2, gRPC) and openloop (HTTP/1.1 at a fixed rate)."""

import array
import collections
import pathlib
import re
import sys

from .processes import NotThere, call

PEERS = pathlib.Path(__file__).resolve().parent.parent / "peers"
FAILED = 2**32 - 1
MIB = 1024 * 1024

# What a closed-loop client did: bytes are those it received.
Done = collections.namedtuple("Done", "requests failed bytes seconds")


def wrk(port, seconds, connections=32, method="GET", body=0, path="/", close=False, turns=None):
    """The wrk command: one fixed request, or the lines of the file `turns` in turn."""
    command = ["wrk", "-t", 1, "-c", connections, "-d", f"{seconds}s", "--timeout", "10s"]
    url = f"http://127.0.0.1:{port}{path}"
    if turns:
        return [*command, "-s", PEERS / "turns.lua", url, "--", turns]
    fields = ["-H", "Host: h1.bench"] + (["-H", "Connection: close"] if close else [])
    return [*command, *fields, "-s", PEERS / "fixed.lua", url, "--", method, body]


def run_wrk(command, seconds):
    found = re.search(r"BENCH requests=(\d+) bytes=(\d+) microseconds=(\d+) failed=(\d+)", call(command, seconds + 60))
    requests, received, micros, failed = map(int, found.groups())
    return Done(requests, failed, received, micros / 1e6)


def h2load(port, seconds, path="/", body_file=None):
    """The h2load command; with a body file it makes gRPC calls."""
    command = ["h2load", "-t", 1, "-c", 8, "-m", 16, "-D", seconds, "-H", ":authority: h2.bench"]
    if body_file:
        command += ["-H", "content-type: application/grpc", "-H", "te: trailers", "-d", body_file]
    return [*command, f"http://127.0.0.1:{port}{path}"]


def run_h2load(command, seconds):
    output = call(command, seconds + 60)
    counts = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", output)
    # In a run of fixed duration, what is in flight at its end counts as failed in some versions: statuses decide.
    statuses = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output)
    if not counts or not statuses:
        raise NotThere(f"h2load said: {output[-1000:]}")
    failed = sum(int(statuses[n]) for n in (2, 3, 4)) + int(counts[4]) + int(counts[5])
    return Done(int(counts[2]), failed, 0, float(seconds))


def openloop(program, requests, rate, seconds, connections, out):
    """The openloop command; `requests` is a file of `ADDRESS:PORT HOST PATH` lines, taken in turn."""
    return [program, "--requests", requests, "--rate", int(rate), "--seconds", seconds,
            "--connections", connections, "--out", out]


def openloop_said(output):
    """(requests, failed, the client's own p99 lag in us)"""
    found = re.search(r"requests (\d+) failed (\d+) lag_p99_us (\d+)", output)
    if not found:
        raise NotThere(f"openloop said: {output[-1000:]}")
    return tuple(map(int, found.groups()))


def latencies(file, first_us=0, last_us=FAILED):
    """Latencies in us, sorted, of the requests that were due in this span; failed ones are left out."""
    records = array.array("I")
    records.frombytes(pathlib.Path(file).read_bytes())
    if sys.byteorder == "big":
        records.byteswap()
    pairs = zip(records[::2], records[1::2])
    return sorted(latency for due, latency in pairs if first_us <= due < last_us and latency != FAILED)


def percentile(values, share):
    """Of sorted values: the smallest that at least this share does not exceed."""
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def percentiles(values):
    return {"p50_us": percentile(values, 0.5), "p99_us": percentile(values, 0.99), "p999_us": percentile(values, 0.999)}
