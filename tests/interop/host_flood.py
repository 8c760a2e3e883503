"""Requests for very many hosts, each asked for once: host_flood.py PROXY_PORT ADMIN_PORT PID HOSTS.

Half are for services that are made for the host, half for what no route takes. Meanwhile the metrics must stay few and the memory bounded.
"""

import asyncio
import sys
import time
import urllib.request

proxy_port, admin_port, pid, hosts = map(int, sys.argv[1:])
CONNECTIONS = 64
BATCH = 20
MARK = b"towpath-error: "
MOST_SERIES = 10_000
MOST_GROWTH = 50 << 20


def memory():
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS:"))


def page():
    begun = time.monotonic()
    with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return text, time.monotonic() - begun


def series(text):
    return sum(not line.startswith("#") for line in text.splitlines())


def value(text, name):
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(name))
    return sum(float(value) for _, value in lines)


class Flood:
    def __init__(self):
        self.next = 0
        self.peak_series = 0
        self.peak_memory = 0
        self.slowest_scrape = 0.0

    def batch(self):
        numbers = range(self.next, min(self.next + BATCH, hosts))
        self.next += len(numbers)
        paths = ("/mesh", "/other")
        asks = [f"GET {paths[n % 2]} HTTP/1.1\r\nhost: h{n}.flood.test\r\n\r\n" for n in numbers]
        return "".join(asks).encode(), len(numbers)

    async def connection(self):
        reader = writer = None
        while self.next < hosts:
            asks, left = self.batch()
            if writer is None or writer.is_closing():
                reader, writer = await asyncio.open_connection("127.0.0.1", proxy_port)
            writer.write(asks)
            rest = b""
            while left:
                got = await reader.read(1 << 16)
                if not got:
                    writer.close()
                    break
                # Each answer is towpath's own, and has its reason in a header, once.
                rest += got
                left -= rest.count(MARK)
                rest = rest[max(rest.rfind(MARK) + len(MARK), len(rest) - len(MARK) + 1) :]
        if writer:
            writer.close()

    async def watch(self):
        while True:
            text, took = await asyncio.to_thread(page)
            self.peak_series = max(self.peak_series, series(text))
            self.peak_memory = max(self.peak_memory, memory())
            self.slowest_scrape = max(self.slowest_scrape, took)
            await asyncio.sleep(1)


async def main():
    flood = Flood()
    # What any first requests need is there before the flood is measured.
    warm = Flood()
    warm.next = hosts - 200
    await warm.connection()
    before, begun = memory(), time.monotonic()
    watching = asyncio.create_task(flood.watch())
    await asyncio.gather(*(flood.connection() for _ in range(CONNECTIONS)))
    took = time.monotonic() - begun
    await asyncio.sleep(2)
    watching.cancel()
    text, _ = page()
    growth = max(flood.peak_memory, memory()) - before
    asked = value(text, "towpath_requests_total{")
    print(f"   {hosts} hosts in {took:.0f} s: at most {flood.peak_series} series, {growth >> 20} MiB more memory,")
    print(f"   a scrape in at most {flood.slowest_scrape * 1000:.0f} ms; {series(text)} series at the end")
    verdict("host-flood-requests-are-counted", asked >= hosts, f"{asked} of {hosts}")
    verdict("host-flood-series", flood.peak_series < MOST_SERIES, f"{flood.peak_series} series")
    verdict("host-flood-memory", growth < MOST_GROWTH, f"{growth >> 20} MiB more")
    overflow = value(text, "towpath_metrics_overflow_total{")
    verdict("host-flood-overflow-is-counted", overflow > 0, "nothing was counted as overflow")


def verdict(name, good, otherwise):
    print(f"ok {name}" if good else f"FAIL {name}: {otherwise}")


asyncio.run(main())
