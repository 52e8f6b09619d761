"""Ports on loopback for the processes of a local cluster.

They are chosen below the ranges from which kernels draw the ports of outgoing connections: while
a process is being restarted, nobody's connection can take its port.
"""

import errno
import secrets
import socket
from collections.abc import Collection

from common import faults

PORTS = range(10_240, 16_000)
ATTEMPTS = 2000
LOOPBACK = "127.0.0.1"


def free_port(wanted: int = 0, taken: Collection[int] = ()) -> int:
    """A free port: the wanted one if it is free, else any. raises Unavailable

    taken    ports that are promised to others, though nobody listens yet
    """
    if wanted and wanted not in taken and not port_trouble(wanted):
        return wanted
    for _ in range(ATTEMPTS):
        port = secrets.choice(PORTS)
        if port not in taken and not port_trouble(port):
            return port
    raise faults.Unavailable("no free port on loopback")


def port_trouble(port: int) -> str:
    """Why nobody can listen on a port now; empty: one can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return "is taken by another program"
            return (error.strerror or "cannot be used").lower()
    return ""
