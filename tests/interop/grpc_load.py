"""Unary gRPC calls from eight channels until towpath can no longer be reached: `grpc_load.py PROXY_ADDRESS`.

A call is lost when it fails although a connection took it. That no connection can be made any more is how a drain
ends, and is no loss. Prints `N requests, N lost`.
"""

import collections
import sys
import threading
import time

import grpc

REFUSED = ("connection refused", "failed to connect to all addresses")


def load(target, counts, end):
    options = [
        ("grpc.default_authority", "grpc.test"),
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    call = grpc.insecure_channel(target, options=options).unary_unary("/interop.Peer/Unary")
    while time.monotonic() < end:
        try:
            if call(b"x" * 100, timeout=10) != b"x" * 100:
                counts["lost"] += 1
            counts["requests"] += 1
        except grpc.RpcError as error:
            if any(text in (error.details() or "").lower() for text in REFUSED):
                return
            counts["lost"] += 1
            print(error.code(), error.details(), file=sys.stderr)
            return


def main(target):
    counts = [collections.Counter() for _ in range(8)]
    end = time.monotonic() + 30
    threads = [threading.Thread(target=load, args=(target, count, end)) for count in counts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = sum(counts, collections.Counter())
    print(f"{total['requests']} requests, {total['lost']} lost")


if __name__ == "__main__":
    main(sys.argv[1])
