"""A flood of connections that never say who they are."""

import os
import resource
import socket
import threading

# Of a record with a ClientHello of TLS, the most of which never comes.
BEGINNING = bytes.fromhex("16030100c8010000c40303") + os.urandom(32)


def more_descriptors(test, count):
    """For this process, and what it starts, until the test ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
    test.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))


class Flood:
    """One connection after the other, of which the newest stay open at this end. `addresses`: in turn from so many; `begins`: every other
    one sends the beginning of a hello; `pause`: seconds between two."""

    def __init__(self, port, addresses=1, begins=False, pause=0.0, kept=2000):
        self.opened = 0
        self._port, self._addresses, self._begins, self._pause, self._kept = port, addresses, begins, pause, kept
        self._open = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(60)
        for each in self._open:
            each.close()

    def _run(self):
        while not self._over.is_set():
            # After the one from which whoever means it comes.
            nth = self.opened % self._addresses
            one = socket.create_connection(("127.0.0.1", self._port),
                                           source_address=(f"127.0.{nth // 250}.{nth % 250 + 1}", 0))
            if self._begins and self.opened % 2:
                one.sendall(BEGINNING)
            self._open.append(one)
            self.opened += 1
            if len(self._open) > self._kept:
                self._open.pop(0).close()
            self._over.wait(self._pause)
