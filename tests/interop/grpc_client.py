"""grpcio's client through towpath: `grpc_client.py PROXY_ADDRESS UNIX_SOCKET`. Prints `ok` and `FAIL` lines."""

import hashlib
import queue
import sys
import time

import grpc

LIMIT = 20  # seconds; a call that hangs is a failure with a name


class Peer:
    """The methods of grpc_server.py over one channel; messages are bytes."""

    def __init__(self, target, authority="grpc.test"):
        self.channel = grpc.insecure_channel(
            target,
            options=[
                ("grpc.default_authority", authority),
                ("grpc.max_receive_message_length", 64 << 20),
                ("grpc.enable_http_proxy", 0),
                ("grpc.enable_retries", 0),
                ("grpc.use_local_subchannel_pool", 1),
            ],
        )

    def one(self, name):
        return self.channel.unary_unary(f"/interop.Peer/{name}")

    def many(self, name):
        return self.channel.unary_stream(f"/interop.Peer/{name}")

    def upload(self, name):
        return self.channel.stream_unary(f"/interop.Peer/{name}")

    def both(self, name):
        return self.channel.stream_stream(f"/interop.Peer/{name}")


def expect(expected, actual):
    if expected != actual:
        raise AssertionError(f"expected {expected!r}, got {actual!r}"[:500])


def error_of(call):
    """The RpcError that `call()` ends with."""
    try:
        result = call()
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"expected an error, got {result!r}"[:300])


def unary(peer):
    expect(b"hello", peer.one("Unary")(b"hello", timeout=LIMIT))


def unary_empty_message(peer):
    expect(b"", peer.one("Unary")(b"", timeout=LIMIT))


def unary_large_message(peer):
    message = bytes(range(256)) * (16 << 12)  # 16 MiB
    expect(hashlib.sha256(message).digest(), hashlib.sha256(peer.one("Unary")(message, timeout=60)).digest())


def metadata_both_ways(peer):
    sent = (("x-sent", "value with spaces"), ("x-sent-bin", b"\x00\x01\xfe\xff"))
    _, call = peer.one("Unary").with_call(b"m", timeout=LIMIT, metadata=sent)
    initial, trailing = dict(call.initial_metadata()), dict(call.trailing_metadata())
    expect("value with spaces", initial.get("x-initial"))
    expect(b"\x00\x01\xfe\xff", initial.get("x-raw-bin"))
    expect("after the message", trailing.get("x-trailing"))
    expect(b"\x00\xff", trailing.get("x-trailing-bin"))


def server_streaming(peer):
    call = peer.many("ServerStream")(b"1000", timeout=LIMIT)
    expect([str(n).encode() for n in range(1000)], list(call))
    expect("after the stream", dict(call.trailing_metadata()).get("x-trailing"))


def server_streaming_of_nothing(peer):
    expect([], list(peer.many("ServerStream")(b"0", timeout=LIMIT)))


def server_streaming_is_not_held_back(peer):
    start, arrivals = time.monotonic(), []
    for _ in peer.many("SlowStream")(b"10", timeout=LIMIT):
        arrivals.append(time.monotonic() - start)
    if arrivals[0] > 0.6 or arrivals[-1] - arrivals[0] < 0.5:
        raise AssertionError(f"messages arrived at {arrivals}")


def client_streaming(peer):
    messages = [bytes([n % 256]) * 5000 for n in range(500)]
    answer = peer.upload("ClientStream")(iter(messages), timeout=LIMIT)
    expect(f"500 {hashlib.sha256(b''.join(messages)).hexdigest()}".encode(), answer)


def client_streaming_of_nothing(peer):
    expect(f"0 {hashlib.sha256().hexdigest()}".encode(), peer.upload("ClientStream")(iter(()), timeout=LIMIT))


def bidirectional_streaming(peer):
    messages = [str(n).encode() * 100 for n in range(500)]
    expect(messages, list(peer.both("Bidirectional")(iter(messages), timeout=LIMIT)))


def bidirectional_ping_pong(peer):
    """Each message is sent only when the answer to the one before has arrived."""
    outbox = queue.Queue()
    call = peer.both("Bidirectional")(iter(outbox.get, None), timeout=LIMIT)
    for number in range(50):
        outbox.put(str(number).encode())
        expect(str(number).encode(), next(call))
    outbox.put(None)
    expect([], list(call))


def every_error_code_and_message(peer):
    for code in grpc.StatusCode:
        if code is grpc.StatusCode.OK:
            continue
        error = error_of(lambda: peer.one("Fail")(code.name.encode(), timeout=LIMIT))
        expect((code, "because: 50 % größer"), (error.code(), error.details()))
        expect("with the error", dict(error.trailing_metadata()).get("x-trailing"))


def error_in_the_middle_of_a_stream(peer):
    received = []

    def read():
        for message in peer.many("FailAfterTwo")(b"", timeout=LIMIT):
            received.append(message)

    error = error_of(read)
    expect((grpc.StatusCode.DATA_LOSS, "mid-stream"), (error.code(), error.details()))
    expect([b"one", b"two"], received)


def unknown_method(peer):
    expect(grpc.StatusCode.UNIMPLEMENTED, error_of(lambda: peer.one("Absent")(b"", timeout=LIMIT)).code())


def deadline_is_passed_on(peer):
    remaining = peer.one("TimeRemaining")(b"", timeout=5)
    if remaining == b"none" or not 3 < float(remaining) <= 5.01:
        raise AssertionError(f"the server saw {remaining!r} of 5 s")


def deadline_exceeded(peer):
    start = time.monotonic()
    error = error_of(lambda: peer.one("Hang")(b"", timeout=0.5))
    expect(grpc.StatusCode.DEADLINE_EXCEEDED, error.code())
    if time.monotonic() - start > 2:
        raise AssertionError("a deadline of 0.5 s took over 2 s")
    expect(b"yes", peer.one("WaitCancelled")(b"", timeout=LIMIT))


def cancellation_reaches_the_server(peer):
    call = peer.one("Hang").future(b"", timeout=LIMIT)
    time.sleep(0.3)
    call.cancel()
    expect(grpc.StatusCode.CANCELLED, call.code())
    expect(b"yes", peer.one("WaitCancelled")(b"", timeout=LIMIT))


def cancellation_of_a_stream_reaches_the_server(peer):
    call = peer.many("HangInStream")(b"", timeout=LIMIT)
    expect(b"first", next(call))
    call.cancel()
    expect(b"yes", peer.one("WaitCancelled")(b"", timeout=LIMIT))


def many_calls_at_once(peer):
    calls = [peer.one("Unary").future(str(n).encode(), timeout=LIMIT) for n in range(300)]
    expect([str(n).encode() for n in range(300)], [call.result() for call in calls])


def refused_endpoint_is_unavailable(target):
    error = error_of(lambda: Peer(target, "dead.test").one("Unary")(b"", timeout=LIMIT))
    expect(grpc.StatusCode.UNAVAILABLE, error.code())
    expect("connect_failed", dict(error.trailing_metadata()).get("towpath-error"))


def over_a_unix_socket(path):
    expect(b"hello", Peer(f"unix:{path}").one("Unary")(b"hello", timeout=LIMIT))


def run(check, argument):
    name = "grpc-" + check.__name__.replace("_", "-")
    try:
        check(argument)
        print(f"ok {name}", flush=True)
        return True
    except Exception as error:  # a check may fail in any way; each becomes one line
        print(f"FAIL {name}: {type(error).__name__} {' '.join(str(error).split())[:500]}", flush=True)
        return False


def main(target, path):
    with_peer = [
        unary, unary_empty_message, unary_large_message, metadata_both_ways,
        server_streaming, server_streaming_of_nothing, server_streaming_is_not_held_back,
        client_streaming, client_streaming_of_nothing, bidirectional_streaming, bidirectional_ping_pong,
        every_error_code_and_message, error_in_the_middle_of_a_stream, unknown_method,
        deadline_is_passed_on, deadline_exceeded,
        cancellation_reaches_the_server, cancellation_of_a_stream_reaches_the_server, many_calls_at_once,
    ]
    peer = Peer(target)
    results = [run(check, peer) for check in with_peer]
    results += [run(refused_endpoint_is_unavailable, target), run(over_a_unix_socket, path)]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
