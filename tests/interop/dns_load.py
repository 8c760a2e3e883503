"""Requests without pause from 8 connections: `dns_load.py ADDRESS HOST SECONDS`.

Prints `N requests, N failed`, and for each endpoint that answered `IP COUNT FIRST LAST`: when (seconds since 1970) the
first and the last request was sent that it answered.
"""

import asyncio
import sys
import time


async def load(address, host, end, seen, failures):
    ip, port = address.rsplit(":", 1)
    request = f"GET / HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection(ip, int(port))
    while (sent := time.time()) < end:
        writer.write(request)
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode("latin-1").lower()
        length = next(int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:"))
        body = (await reader.readexactly(length)).decode().strip()
        if not head.startswith("http/1.1 200"):
            failures.append(f"{head.splitlines()[0]}: {body}")
            continue
        count, first, _ = seen.get(body, (0, sent, sent))
        seen[body] = (count + 1, first, sent)
    writer.close()


async def main(address, host, seconds):
    seen, failures = {}, []
    end = time.time() + float(seconds)
    outcomes = await asyncio.gather(
        *(load(address, host, end, seen, failures) for _ in range(8)), return_exceptions=True
    )
    failures += [repr(outcome) for outcome in outcomes if outcome is not None]
    print(f"{sum(count for count, *_ in seen.values())} requests, {len(failures)} failed")
    for ip, (count, first, last) in sorted(seen.items()):
        print(f"{ip} {count} {first:.3f} {last:.3f}")
    for failure in failures[:5]:
        print(failure, file=sys.stderr)


asyncio.run(main(*sys.argv[1:]))
