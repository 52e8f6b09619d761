"""A whole cluster whose every disk is on one image, so that all of it loses its power at once.

Writers note outside what each key may hold: what was acknowledged last, and what was under way.
"""

import os
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tests.faults.contents import contents, name
from tests.powerloss.image import Image
from tests.support.cluster import Cluster, wait_for

BUCKET = "power"
ZONES, WRITERS, KEYS_EACH = 6, 4, 12
SIZES = (100, 5000, 20_000, 100_000, 1_500_000)
LOAD_S = (0.5, 6.0)
FSCK_S, END_S = 120.0, 30.0
SETTINGS = "[storagenode]\nextent_bytes = 67108864\nreserve_bytes = 134217728\n"


@dataclass(slots=True)
class ClusterRounds:
    """Rounds of load and darkness."""

    image: Image
    chance: Random
    may_hold: dict[str, list[str | None]] = field(default_factory=dict)  # by key; None: nothing
    told: Counter[str] = field(default_factory=Counter)
    _written: int = 0
    _is_dark: threading.Event = field(default_factory=threading.Event)

    def run(self, number: int) -> str:
        """One round; how it was cut. raises AssertionError"""
        self.image.mount()
        cluster = Cluster(self.image.mounted, ZONES)
        cluster.data.mkdir(exist_ok=True)
        (cluster.data / "settings.toml").write_text(SETTINGS)
        try:
            cluster.start()
            if not number:
                cluster.s3().create_bucket(Bucket=BUCKET)
            way = self._load(cluster)
        finally:
            kill_all(cluster.data)
        self.image.unmount()
        self.image.mount()
        self.image.unmount()
        self.image.check()
        self.image.mount()
        cluster = Cluster(self.image.mounted, ZONES)
        try:
            cluster.start()
            self._compare(cluster)
            wait_for(lambda: self._is_clean(cluster), "a clean fsck", FSCK_S)
            cluster.stop()
        finally:
            kill_all(cluster.data)
        self.image.unmount()
        return way

    def finish(self) -> None:
        """Each round has compared what it left."""

    def _load(self, cluster: Cluster) -> str:
        self._is_dark.clear()
        threads = [
            threading.Thread(target=self._write, args=(cluster, writer, self.chance.random()))
            for writer in range(WRITERS)
        ]
        for thread in threads:
            thread.start()
        time.sleep(self.chance.uniform(*LOAD_S))
        way = self.image.cut_power(self.chance)
        self._is_dark.set()
        kill_all(cluster.data)
        for thread in threads:
            thread.join()
        return way

    def _write(self, cluster: Cluster, writer: int, seed: float) -> None:
        chance = Random(seed)
        s3 = cluster.s3(retries={"max_attempts": 1}, connect_timeout=2, read_timeout=20)
        while not self._is_dark.is_set():
            key = f"{writer}-{chance.randrange(KEYS_EACH)}"
            value = None
            if chance.random() > 0.2:
                self._written += 1
                value = name(f"{key}-{seed}", self._written, chance.choice(SIZES))
            self.may_hold.setdefault(key, [None]).append(value)
            try:
                if value is None:
                    s3.delete_object(Bucket=BUCKET, Key=key)
                else:
                    s3.put_object(Bucket=BUCKET, Key=key, Body=contents(value))
            except (ClientError, BotoCoreError):
                continue  # it may have happened, or may still
            self.may_hold[key] = [value]
            self.told["deleted" if value is None else "put"] += 1

    def _compare(self, cluster: Cluster) -> None:
        s3 = cluster.s3()
        for key, values in self.may_hold.items():
            data = read(s3, key)
            holds = [v for v in values if (contents(v) if v is not None else None) == data]
            assert holds, f"{key} holds {len(data or b'')} bytes that are none of {values}"
            self.may_hold[key] = holds[-1:]
            self.told["compared"] += 1

    def _is_clean(self, cluster: Cluster) -> bool:
        done = cluster.command("fsck", "--directory", str(cluster.data), timeout_s=FSCK_S)
        return done.returncode == 0

    def figures(self) -> str:
        """What was told in all rounds."""
        return ", ".join(f"{count:,} {word}" for word, count in sorted(self.told.items()))


def read(s3: Any, key: str) -> bytes | None:
    """A whole object; None: there is none."""
    try:
        body: bytes = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    except s3.exceptions.NoSuchKey:
        return None
    return body


def kill_all(data: Path) -> None:
    """kill -9 of every process of the cluster in this folder, its supervisor first."""
    deadline_s = time.monotonic() + END_S
    while found := processes_of(data):
        assert time.monotonic() < deadline_s, f"{found} did not end"
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def processes_of(data: Path) -> list[int]:
    """Processes that name this folder in their command lines, the oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if str(data).encode() in (entry / "cmdline").read_bytes() and state != "Z":
                found.append(int(entry.name))
    return sorted(found)
