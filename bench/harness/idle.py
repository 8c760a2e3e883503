"""Connections that make one request each and then rest: HTTP/1.1, and HTTP/2 with prior knowledge."""

import contextlib
import os
import socket
import struct

from .processes import REST_CPU

HTTP1_REQUEST = b"GET / HTTP/1.1\r\nHost: h1.bench\r\n\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, HEADERS, END_STREAM = 4, 1, 1


class Refused(Exception):
    """A connection of many was closed, or answered with something else."""


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def http2_request():
    """Preface, empty settings, and one GET: static table entries for the method, scheme and path; a literal authority."""
    authority = b"h2.bench"
    fields = b"\x82\x86\x84\x01" + bytes([len(authority)]) + authority
    return PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, 4 | END_STREAM, 1, fields)


def read_http1(sock):
    received = b""
    while not received.endswith(b"as always\n"):
        received += chunk(sock)
    if not received.startswith(b"HTTP/1.1 200"):
        raise Refused(received[:200])


def read_http2(sock):
    """Reads frames up to the end of stream 1; acknowledges the settings, as a peer must."""
    received = b""
    while True:
        while len(received) < 9:
            received += chunk(sock)
        length = int.from_bytes(received[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", received[3:9])
        while len(received) < 9 + length:
            received += chunk(sock)
        received = received[9 + length:]
        if kind == SETTINGS and not flags & 1:
            sock.sendall(frame(SETTINGS, 1, 0))
        if stream == 1 and flags & END_STREAM:
            return


def chunk(sock):
    data = sock.recv(65536)
    if not data:
        raise Refused("the proxy closed an idle connection")
    return data


@contextlib.contextmanager
def connections(port, count, over_http2):
    """`count` connections that have had an answer and rest; all are closed on the way out."""
    request, read = (http2_request(), read_http2) if over_http2 else (HTTP1_REQUEST, read_http1)
    before, held = os.sched_getaffinity(0), []
    os.sched_setaffinity(0, {REST_CPU})
    try:
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", port), 10)
            held.append(sock)
            sock.sendall(request)
            read(sock)
        yield
    finally:
        for sock in held:
            sock.close()
        os.sched_setaffinity(0, before)
