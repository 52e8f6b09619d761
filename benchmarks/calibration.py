"""What this machine can do just now: a line that makes results of different hours comparable."""

import hashlib
import os
import secrets
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MIB = 1024 * 1024
ROUND_S = 0.25
SYNCS = 100
PAGE = 4096


def calibrate() -> str:
    """MD5 and AES-GCM of one core, fdatasync of the temporary folder's disk, loopback."""
    data = os.urandom(MIB)
    cipher, out = AESGCM(secrets.token_bytes(32)), bytearray(MIB + 16)
    md5 = _rate(lambda: hashlib.md5(data))
    aes = _rate(lambda: cipher.encrypt_into(bytes(12), data, None, out))
    return (
        f"MD5 {md5:,.0f} MB/s, AES-256-GCM {aes:,.0f} MB/s, fdatasync {_sync_ms(data):.2f} ms, "
        f"loopback {_loopback(data):,.0f} MB/s, {os.cpu_count()} cores, "
        f"load average {os.getloadavg()[0]:.1f}"
    )


def _rate(work: Callable[[], object]) -> float:
    """MB/s of something that handles a MiB."""
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < ROUND_S:
        work()
        count += 1
    return count * MIB / 1e6 / (time.perf_counter() - begin)


def _sync_ms(data: bytes) -> float:
    """Median of appending a page and syncing it."""
    times = []
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(SYNCS):
            file.write(data[:PAGE])
            file.flush()
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1e3


def _loopback(data: bytes) -> float:
    """MB/s through one TCP connection on loopback, both ends in this process."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = socket.create_connection(server.getsockname())
        receiver, _ = server.accept()
    with sender, receiver:
        memory, total = bytearray(MIB), 0

        def drain() -> None:
            nonlocal total
            while count := receiver.recv_into(memory):
                total += count

        thread = threading.Thread(target=drain)
        thread.start()
        begin = time.perf_counter()
        while time.perf_counter() - begin < ROUND_S:
            sender.sendall(data)
        sender.shutdown(socket.SHUT_WR)
        thread.join()
        return total / 1e6 / (time.perf_counter() - begin)
