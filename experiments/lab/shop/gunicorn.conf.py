# How the shop is served: one process (so that its metrics are one set of numbers) and more threads
# than rate x time-out, retries of clients included, so that the pool is what runs out in an outage and not the threads.
import ctypes
import os
import signal

bind = os.environ["SHOP_BIND"]
workers = 1
worker_class = "gthread"
threads = 800
worker_connections = 2000
backlog = 1024
keepalive = 75
graceful_timeout = 1
accesslog = None
loglevel = "warning"


def post_fork(server, worker):
    # A worker outlives a killed gunicorn by up to a second; the lab promises that nothing survives it.
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != server.pid:
        os._exit(1)
