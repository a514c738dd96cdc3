"""Free loopback ports that stay ours: a bound, never listening socket holds each one.

The kernel gives a held port to nobody who asks for "any port", while a server that binds exactly this
port with SO_REUSEADDR (all of the lab's do) gets it, again and again, also after a restart.
"""

import socket


class PortReservation:
    def __init__(self, names):
        self._sockets = {}
        for name in names:
            held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", 0))
            self._sockets[name] = held

    def ports(self):
        return {name: held.getsockname()[1] for name, held in self._sockets.items()}

    def close(self):
        for held in self._sockets.values():
            held.close()
