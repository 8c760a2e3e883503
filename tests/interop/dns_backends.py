"""One HTTP/1.1 server at every loopback address: `dns_backends.py PORT`. An answer's body is the address it came to."""

import asyncio
import sys


async def serve(reader, writer):
    ip, port = writer.get_extra_info("sockname")[:2]
    body = f"{ip}\n".encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(answer)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main(port):
    servers = [await asyncio.start_server(serve, "0.0.0.0", port)]
    try:
        servers.append(await asyncio.start_server(serve, "::1", port))
    except OSError:  # a host without IPv6
        pass
    await asyncio.gather(*(server.serve_forever() for server in servers))


asyncio.run(main(int(sys.argv[1])))
