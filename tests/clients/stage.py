"""Real clients at work on real servers, once directly and once through the relay, with a recorder on both of its sides.

    client > outer tap > wire_proxy with a codec and rules that match nothing > inner tap > server

Both taps must have recorded the same streams, byte for byte, and the client must have said the same as directly. That
the codec was awake is in the counters that the proxy prints at its end.
"""

import collections
import contextlib
import hashlib
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "testing"))

PROXY = os.environ.get("FIREDRILL_WIRE_PROXY") or str(TESTS.parent / "build/dev/bench/wire_proxy")
LIMIT_S = 120
BIG = 100_000_000
PIECE = 256 * 1024
COUNTERS = re.compile(r"accepted (\d+), refused (\d+), requests (\d+), .*\n"
                      r"lost (\d+) \((.*)\), encrypted (\d+)", re.DOTALL)
Counters = collections.namedtuple("Counters", "accepted refused requests lost why encrypted")
Stream = collections.namedtuple("Stream", "length sha256")


class Digest:
    """Length and SHA-256 of what has been added."""

    def __init__(self):
        self._hash = hashlib.sha256()
        self.length = 0

    def add(self, data):
        self._hash.update(data)
        self.length += len(data)

    def stream(self):
        return Stream(self.length, self._hash.hexdigest())


class Tap:
    """Passes connections on to a port of this machine, and records what each end said."""

    def __init__(self, port, spoil_at=None):
        self._to = port
        self._spoil_at = spoil_at  # Of the client's stream, which byte is to be another one.
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._threads = []
        self._pairs = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._to), 10)
                server.settimeout(None)
            except OSError:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ways = Digest(), Digest()
            self._pairs.append(ways)
            thread = threading.Thread(target=self._carry_both, args=(client, server, *ways), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _carry_both(self, client, server, up, down):
        back = threading.Thread(target=self._carry, args=(server, client, down, None), daemon=True)
        back.start()
        self._carry(client, server, up, self._spoil_at)
        back.join()
        client.close()
        server.close()

    @staticmethod
    def _carry(source, target, way, spoil_at):
        try:
            while data := source.recv(PIECE):
                if spoil_at is not None and way.length <= spoil_at < way.length + len(data):
                    data = bytearray(data)
                    data[spoil_at - way.length] ^= 1
                way.add(data)
                target.sendall(data)
        except OSError:
            # The other direction may still hold what was said before the end.
            with contextlib.suppress(OSError):
                source.shutdown(socket.SHUT_RD)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def streams(self):
        """Of each connection what the client said and what the server did, when all are over; in no order."""
        limit = time.monotonic() + 20
        for thread in list(self._threads):
            thread.join(max(0, limit - time.monotonic()))
            if thread.is_alive():
                raise AssertionError("a connection is still open when its client has ended")
        return sorted((up.stream(), down.stream()) for up, down in self._pairs)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()


class Wire:
    """The relay between two taps; `counters` and the streams are there when it has ended."""

    def __init__(self, protocol, port, spoil_at=None):
        self.inner = Tap(port)
        # The tap that spoils is one more, as a relay would be that does.
        self._spoiler = Tap(self.inner.port, spoil_at) if spoil_at is not None else None
        self._process = subprocess.Popen(
            [PROXY, "--server", f"127.0.0.1:{(self._spoiler or self.inner).port}", "--protocol", protocol,
             # HTTP has no users for the third of them.
             "--rules", "2" if protocol == "http" else "6"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/")
        self.outer = Tap(int(self._process.stdout.readline()))
        self.port = self.outer.port
        self.counters = None
        self.said = self.heard = None

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.said, self.heard = self.outer.streams(), self.inner.streams()
        finally:
            self._process.send_signal(signal.SIGINT)
            words = self._process.communicate(timeout=30)[1]
            for tap in filter(None, (self.outer, self.inner, self._spoiler)):
                tap.close()
        found = COUNTERS.search(words)
        if self._process.returncode != 0 or not found:
            raise AssertionError(f"wire_proxy ended with {self._process.returncode}: {words}")
        self.counters = Counters(*(int(part) if part.isdigit() else part for part in found.groups()))


def run(words, given=None, code=0, environment=None):
    """What a program says on both outputs. `given`: its input, bytes or a path."""
    source = open(given, "rb") if isinstance(given, str) else None
    try:
        done = subprocess.run(words, input=None if source else given or b"", stdin=source, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=LIMIT_S, cwd="/",
                              env={"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "LC_ALL": "C.UTF-8",
                                   **(environment or {})})
    finally:
        if source:
            source.close()
    if done.returncode != code:
        raise AssertionError(f"{words} ended with {done.returncode}: {done.stdout[-2000:].decode(errors='replace')}")
    return done.stdout


def digest(words, given=None):
    """Likewise of one that says very much: only length and SHA-256 of it."""
    with open(given or os.devnull, "rb") as source, tempfile.TemporaryFile() as errors:
        with subprocess.Popen(words, stdin=source, stdout=subprocess.PIPE, stderr=errors, cwd="/",
                              env={"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "LC_ALL": "C.UTF-8"}) as process:
            said = Digest()
            while data := process.stdout.read(PIECE):
                said.add(data)
        errors.seek(0)
        if process.returncode != 0:
            raise AssertionError(f"{words} ended with {process.returncode}: {errors.read().decode(errors='replace')}")
    return f"{said.stream()}".encode()


class ClientsTest(unittest.TestCase):
    """`server` is whatever has a `port`; each protocol's tests start their own."""

    protocol = None
    server = None

    def has(self, said, *words):
        for word in words:
            self.assertTrue(word in said, f"{word!r} is not in {said[:1000]!r} ... {said[-1000:]!r}")

    def same(self, directly, said):
        """Without printing a hundred megabytes."""
        if directly == said:
            return
        directly, said = repr(directly), repr(said)
        at = next((i for i, (a, b) in enumerate(zip(directly, said)) if a != b), min(len(directly), len(said)))
        self.fail(f"from byte {at} on it differs:\n{directly[max(0, at - 200):at + 200]}\n"
                  f"{said[max(0, at - 200):at + 200]}")

    def through(self, work, port=None, lost=(0, ""), encrypted=False):
        """Does the work directly and through; returns what it said, and the relay's counters."""
        port = port or self.server.port
        directly = work(port)
        with Wire(self.protocol, port) as wire:
            said = work(wire.port)
        self.same(directly, said)
        self.assertEqual(wire.said, wire.heard)
        self.assertEqual(wire.counters.accepted, len(wire.said))
        self.assertEqual((wire.counters.lost, wire.counters.why), lost)
        self.assertEqual(wire.counters.encrypted, wire.counters.accepted if encrypted else 0)
        self.assertEqual(wire.counters.refused, 0)
        return said, wire

    def garbage(self, said, answer=b""):
        """Nobody's protocol passes as it is, and the codec says that it has lost track."""
        with Wire(self.protocol, self.server.port) as wire:
            with socket.create_connection(("127.0.0.1", wire.port), 10) as client:
                client.sendall(said)
                client.shutdown(socket.SHUT_WR)
                heard = b""
                with contextlib.suppress(ConnectionResetError):
                    while data := client.recv(4096):
                        heard += data
        self.has(heard, answer)
        self.assertEqual([up.length for up, _ in wire.said], [len(said)])
        self.assertEqual(wire.said, wire.heard)
        self.assertEqual(wire.counters.lost, 1)
        self.assertNotEqual(wire.counters.why, "")
        return wire.counters.why
