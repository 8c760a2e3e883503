"""A gRPC server for grpc_client.py and grpc_load.py: every call kind; messages are bytes, so no code is generated."""

import hashlib
import sys
import threading
import time
from concurrent import futures

import grpc

cancelled = threading.Semaphore(0)


def unary(request, context):
    seen = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-initial", seen.get("x-sent", "")), ("x-raw-bin", seen.get("x-sent-bin", b""))))
    context.set_trailing_metadata((("x-trailing", "after the message"), ("x-trailing-bin", b"\x00\xff")))
    return request


def server_stream(request, context):
    context.set_trailing_metadata((("x-trailing", "after the stream"),))
    for number in range(int(request)):
        yield str(number).encode()


def slow_stream(request, context):
    for number in range(int(request)):
        time.sleep(0.1)
        yield str(number).encode()


def client_stream(requests, context):
    digest, count = hashlib.sha256(), 0
    for message in requests:
        digest.update(message)
        count += 1
    return f"{count} {digest.hexdigest()}".encode()


def bidirectional(requests, context):
    for message in requests:
        yield message


def fail(request, context):
    context.set_trailing_metadata((("x-trailing", "with the error"),))
    context.abort(grpc.StatusCode[request.decode()], "because: 50 % größer")


def fail_after_two(request, context):
    yield b"one"
    yield b"two"
    context.abort(grpc.StatusCode.DATA_LOSS, "mid-stream")


def hang(request, context):
    """Waits for the call's end; a semaphore tells `count_cancelled` that it came by cancellation or deadline."""
    ended = threading.Event()
    context.add_callback(ended.set)
    if ended.wait(20):
        cancelled.release()
    return b"never"


def hang_in_stream(request, context):
    yield b"first"
    yield hang(request, context)


def wait_cancelled(request, context):
    return b"yes" if cancelled.acquire(timeout=5) else b"no"


def time_remaining(request, context):
    remaining = context.time_remaining()
    return b"none" if remaining is None or remaining > 1e6 else f"{remaining:.3f}".encode()


def main(address):
    one, many = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    handlers = {
        "Unary": one(unary),
        "ServerStream": many(server_stream),
        "SlowStream": many(slow_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "Bidirectional": grpc.stream_stream_rpc_method_handler(bidirectional),
        "Fail": one(fail),
        "FailAfterTwo": many(fail_after_two),
        "Hang": one(hang),
        "HangInStream": many(hang_in_stream),
        "WaitCancelled": one(wait_cancelled),
        "TimeRemaining": one(time_remaining),
    }
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=64),
        options=[("grpc.max_receive_message_length", 64 << 20), ("grpc.so_reuseport", 0)],
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("interop.Peer", handlers),))
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(sys.argv[1])
