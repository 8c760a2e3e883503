"""A name whose addresses are all replaced again and again under load: `dns_churn.py PROXY HOST NAME NAMED_PORT TTL`.

Prints `N changes, N requests, N failed, at most N.N s late`: how long after its removal (when nsupdate had returned) the last
request to any address was sent.
"""

import asyncio
import sys
import time

SIZE = 500
STEPS = 10


def addresses(step):
    return [f"127.3.{n // 250}.{n % 250 + 1}" for n in range(step * SIZE, (step + 1) * SIZE)]


async def ask(reader, writer, request):
    writer.write(request)
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode("latin-1").lower()
    length = next(int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:"))
    return head.startswith("http/1.1 200"), (await reader.readexactly(length)).decode().strip()


async def load(proxy, host, done, last, failures):
    ip, port = proxy.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(ip, int(port))
    request = f"GET / HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()
    count = 0
    while not done.is_set():
        sent = time.time()
        good, body = await ask(reader, writer, request)
        if good:
            last[body] = sent
        else:
            failures.append(body)
        count += 1
    writer.close()
    return count


async def update(named_port, name, ttl, removed, added):
    lines = ["server 127.0.0.1 " + named_port, "zone mesh.test"]
    lines += [f"update delete {name}. A {ip}" for ip in removed]
    lines += [f"update add {name}. {ttl} A {ip}" for ip in added]
    text = "\n".join([*lines, "send", ""]).encode()
    process = await asyncio.create_subprocess_exec("nsupdate", "-v", stdin=asyncio.subprocess.PIPE)
    await asyncio.wait_for(process.communicate(text), 20)
    if process.returncode:
        sys.exit("nsupdate failed")


async def main(proxy, host, name, named_port, ttl):
    done, last, failures, removed_at = asyncio.Event(), {}, [], {}
    loads = [asyncio.create_task(load(proxy, host, done, last, failures)) for _ in range(4)]
    for step in range(STEPS):
        await asyncio.sleep(int(ttl) + 1.5)
        await update(named_port, name, ttl, addresses(step), addresses(step + 1))
        removed_at.update(dict.fromkeys(addresses(step), time.time()))
    await asyncio.sleep(int(ttl) + 1.5)
    done.set()
    counts = await asyncio.gather(*loads, return_exceptions=True)
    failures += [repr(count) for count in counts if isinstance(count, Exception)]
    requests = sum(count for count in counts if isinstance(count, int))
    late = max((last[ip] - at for ip, at in removed_at.items() if ip in last), default=0)
    used = len(last)
    print(f"{2 * SIZE * STEPS} changes, {requests} requests to {used} addresses, {len(failures)} failed, at most {late:.1f} s late")
    for failure in failures[:5]:
        print(failure, file=sys.stderr)


asyncio.run(main(*sys.argv[1:]))
