#!/usr/bin/env python3
"""What scrapes cost requests: latency at a fixed rate, with a scrape each second and without, of a node that knows 100,000 endpoints.

    bench/scrape.py --towpath target/release/towpath

Rounds with and without scrapes take turns. Needs nginx. The endpoints stand in a file source that no request goes to: requests go to nginx,
and what is measured is what scrapes take from them.
"""

import argparse
import asyncio
import re
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

CONFIG = """
[node]
workers = 2
[admin]
listen = "127.0.0.1:{admin}"
[drain]
timeout = "1s"
[[listeners]]
name = "outgoing"
kind = "outgoing"
listen = "127.0.0.1:{proxy}"
[[routes]]
name = "one"
hosts = ["one"]
backends = [{{ service = "one" }}]
[services.one]
endpoints = ["127.0.0.1:{origin}"]
"""
# Twice: a file may have 65,536 endpoints.
MANY = """
[[routes]]
name = "many-{half}"
hosts = ["many-{half}"]
backends = [{{ service = "many-{half}" }}]
[services.many-{half}]
file = "endpoints-{half}"
"""
NGINX = """
daemon off; master_process off; pid nginx.pid; error_log nginx.log warn;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 100000000;
  server {{ listen 127.0.0.1:{origin}; location / {{ return 200 "hello from the origin\\n"; }} }} }}
"""


async def request(reader, writer):
    writer.write(b"GET / HTTP/1.1\r\nhost: one\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head.lower()).group(1))
    await reader.readexactly(length)
    assert b" 200 " in head[:20], head


async def load(port, rate, seconds, connections=16):
    """Latencies in ms, each from when its request was due: one that waits for another counts its wait."""
    idle = asyncio.Queue()
    for _ in range(connections):
        idle.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    taken, running = [], set()

    async def one(due):
        connection = await idle.get()
        await request(*connection)
        taken.append((time.perf_counter() - due) * 1000)
        idle.put_nowait(connection)

    begun = time.perf_counter()
    for number in range(int(rate * seconds)):
        due = begun + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(one(due))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    return sorted(taken)


class Scraper:
    """In a process of its own, so that reading pages is not measured as towpath's."""

    CODE = """
import sys, time, urllib.request
while True:
    begun = time.perf_counter()
    page = urllib.request.urlopen(sys.argv[1]).read()
    took = time.perf_counter() - begun
    print(f"{took * 1000:.1f} {len(page)} {sum(not l.startswith(b'#') for l in page.splitlines())}", flush=True)
    time.sleep(max(0, 1 - took))
"""

    def __init__(self, url, count):
        command = ["nice", "python3", "-c", self.CODE, url]
        self.processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]

    def stop(self):
        lines = []
        for process in self.processes:
            process.terminate()
            lines += process.communicate()[0].split("\n")
        return [tuple(map(float, line.split())) for line in lines if line.count(" ") == 2]


def cpu(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def resident(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1)) // 1024


def wait_for(url):
    for _ in range(600):
        try:
            return urllib.request.urlopen(url).read()
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{url} does not answer")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--towpath", default="target/release/towpath")
    options.add_argument("--endpoints", type=int, default=100_000)
    options.add_argument("--rate", type=int, default=800)
    options.add_argument("--seconds", type=int, default=10)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--scrapers", type=int, nargs="*", default=[0, 1, 10])
    options = options.parse_args()
    origin, proxy, admin = 18080, 18140, 18990
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        config = CONFIG.format(origin=origin, proxy=proxy, admin=admin)
        for half in range(2):
            numbers = range(half * options.endpoints // 2, (half + 1) * options.endpoints // 2)
            (work / f"endpoints-{half}").write_text("".join(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}:80\n" for n in numbers))
            config += MANY.format(half=half)
        (work / "towpath.toml").write_text(config)
        (work / "nginx.conf").write_text(NGINX.format(origin=origin))
        nginx = subprocess.Popen(["nginx", "-c", work / "nginx.conf", "-p", work, "-e", work / "nginx.log"])
        towpath = subprocess.Popen([options.towpath, "run", "--config", work / "towpath.toml"], stderr=subprocess.DEVNULL)
        try:
            metrics = f"http://127.0.0.1:{admin}/metrics"
            wait_for(metrics)
            while wait_for(metrics).count(b"towpath_endpoint_available{") < min(options.endpoints, 10_000):
                time.sleep(0.2)
            measure(options, towpath.pid, proxy, metrics)
        finally:
            towpath.terminate()
            nginx.terminate()
            towpath.wait()
            nginx.wait()


def measure(options, pid, proxy, metrics):
    asyncio.run(load(proxy, options.rate, 3))
    print("scrapers  p50 ms  p99 ms  p99.9 ms  max ms   CPU %  scrape ms  page KiB   lines  RSS MiB")
    for _ in range(options.rounds):
        for count in options.scrapers:
            scraper, spent, begun = Scraper(metrics, count), cpu(pid), time.perf_counter()
            taken = asyncio.run(load(proxy, options.rate, options.seconds))
            share = 100 * (cpu(pid) - spent) / (time.perf_counter() - begun)
            pages = scraper.stop()
            p50, p99, p999 = (taken[int(len(taken) * share)] for share in (0.5, 0.99, 0.999))
            slowest = max((page[0] for page in pages), default=0)
            size, lines = max(((page[1] / 1024, page[2]) for page in pages), default=(0, 0))
            print(f"{count:8}  {p50:6.2f}  {p99:6.2f}  {p999:8.2f}  {taken[-1]:6.1f}  {share:6.1f}  {slowest:9.0f}  {size:8.0f}  {lines:6.0f}  {resident(pid):7}", flush=True)


main()
