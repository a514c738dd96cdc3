"""A crowd that comes suddenly: requests at a fixed rate of arrivals, however slowly they are answered."""

import asyncio
import collections
import time
import urllib.parse

PATIENCE_S = 5


async def visit(host, port, path, seen):
    """One visitor; what became of it is counted by status, or by the reason why there is none."""
    async def ask():
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            line = await reader.readline()
            await reader.read()
            return line.split()[1].decode() if line else "closed"
        finally:
            writer.close()

    try:
        seen[await asyncio.wait_for(ask(), PATIENCE_S)] += 1
    except asyncio.TimeoutError:
        seen["timeout"] += 1
    except OSError:
        seen["refused"] += 1


async def arrive(address, path, rate, seconds):
    place = urllib.parse.urlsplit(address)
    seen, under_way = collections.Counter(), set()
    begin = time.monotonic()
    for number in range(round(rate * seconds)):
        await asyncio.sleep(max(0, begin + number / rate - time.monotonic()))
        visitor = asyncio.create_task(visit(place.hostname, place.port, path, seen))
        under_way.add(visitor)
        visitor.add_done_callback(under_way.discard)
    if under_way:
        await asyncio.wait(under_way, timeout=1)
    # Who still waits goes: the crowd is over at its time, or the remedy that it is would not be.
    seen["gone"] += len(under_way)
    for visitor in under_way:
        visitor.cancel()
    return +seen


def send(address, path, rate, seconds):
    return asyncio.run(arrive(address, path, rate, seconds))
