"""Free loopback ports that stay ours: a bound, never listening socket holds each one.

The kernel gives a held port to nobody who asks for "any port", while a server that binds exactly this
port with SO_REUSEADDR (all of the lab's do) gets it, again and again, also after a restart.
"""

import socket

LOOPBACK = "127.0.0.1"
# Of the machines that a lab may be spread over, who is where: the database's has all that measures.
HOSTS = ("database", "shop", "firedrill")
HOST_OF = {"shop": "shop", "shop_operations": "shop", "gateway": "shop", "gateway_metrics": "shop",
           "firedrill_webhook": "firedrill"}


class Ports(dict):
    """Name → port; and the address that each one is bound to."""

    def __init__(self, ports, hosts=None):
        super().__init__(ports)
        self.hosts = hosts or {}

    def host(self, name):
        return self.hosts.get(HOST_OF.get(name, "database"), LOOPBACK)

    def at(self, name):
        return f"{self.host(name)}:{self[name]}"


class PortReservation:
    def __init__(self, names):
        self._sockets = {}
        for name in names:
            held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind((LOOPBACK, 0))
            self._sockets[name] = held

    def ports(self, hosts=None):
        return Ports({name: held.getsockname()[1] for name, held in self._sockets.items()}, hosts)

    def close(self):
        for held in self._sockets.values():
            held.close()
