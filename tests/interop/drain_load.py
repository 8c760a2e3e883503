"""Keep-alive HTTP/1.1 requests from 16 connections until towpath refuses new ones: `drain_load.py ADDRESS HOST`.

Strict on purpose: a request that was written and got no complete answer is lost, also on a reused connection, and a
connection may end only after an answer that said `connection: close`. Prints `N requests, N lost`.
"""

import collections
import socket
import sys
import threading
import time


def connect(address):
    """None once the listener is closed."""
    try:
        return socket.create_connection(address, timeout=10)
    except ConnectionRefusedError:
        return None
    except ConnectionResetError:  # the listener closed with this connection still in its queue
        return None


def read_answer(stream):
    """(status, may the connection be used again); raises when the answer is incomplete."""
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError(f"no status line: {line!r}")
    status, length, keep = int(line.split()[1]), None, True
    while (field := stream.readline()) != b"\r\n":
        if not field.endswith(b"\r\n"):
            raise EOFError("head cut off")
        name, _, value = field.decode("latin-1").partition(":")
        if name.lower() == "content-length":
            length = int(value)
        if name.lower() == "connection" and "close" in value.lower():
            keep = False
    if length is None or len(stream.read(length)) != length:
        raise EOFError("body cut off")
    return status, keep


def load(address, host, counts, end):
    request = f"GET /small HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()
    while time.monotonic() < end and (connection := connect(address)):
        with connection, connection.makefile("rb") as stream:
            keep, answered = True, 0
            while keep and time.monotonic() < end:
                try:
                    connection.sendall(request)
                    status, keep = read_answer(stream)
                except OSError as error:
                    return lose(counts, answered, error)
                except EOFError as error:
                    return lose(counts, answered, error)
                if status != 200:
                    return lose(counts, answered, f"status {status}")
                answered += 1
                counts["requests"] += 1


def lose(counts, answered, error):
    # A connection that was in the listener's queue when it closed never reached the daemon: the kernel resets it.
    if answered == 0 and isinstance(error, ConnectionResetError):
        counts["refused"] += 1
        return
    counts["lost"] += 1
    print(f"after {answered} answers: {error!r}", file=sys.stderr)


def main(address, host):
    ip, port = address.rsplit(":", 1)
    counts = [collections.Counter() for _ in range(16)]
    end = time.monotonic() + 30
    threads = [threading.Thread(target=load, args=((ip, int(port)), host, count, end)) for count in counts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = sum(counts, collections.Counter())
    print(f"{total['requests']} requests, {total['lost']} lost")


if __name__ == "__main__":
    main(*sys.argv[1:])
