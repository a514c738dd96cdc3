"""How much of the machine's time others take: what promises are measured against on a busy machine."""

import ctypes
import mmap
import os
import signal
import struct
import time

NAP_S = 0.005
# Ordinary lateness of a timer, which is no sign of a busy machine.
ORDINARY_S = 0.001
PR_SET_PDEATHSIG = 1


class Delay:
    """A process of its own that naps all the time and adds up how much later than asked it wakes.

    The sum over a while is the time in which a process that wanted to run did not. Start it before threads.
    """

    def __init__(self):
        self.shared = mmap.mmap(-1, 8)
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() == parent:
                    self._measure()
            finally:
                os._exit(1)

    def _measure(self):
        total = 0.0
        while True:
            begin = time.monotonic()
            time.sleep(NAP_S)
            late = time.monotonic() - begin - NAP_S
            if late > ORDINARY_S:
                total += late
                self.shared[:] = struct.pack("d", total)

    def total(self):
        """Seconds lost since the start; the difference of two says what was lost in between."""
        return struct.unpack("d", self.shared[:])[0]

    def stop(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
