"""Real power loss: python -m tests.powerloss.real [--filesystem ext4,xfs] [--rounds N] [--seed S].

A file system in a loop-mounted image loses its power by the shutdown ioctl, at a random moment, in
each round: the processes on it are killed, it is unmounted, checked, mounted again; then everything
that had been acknowledged, noted outside the image, is compared. --rounds: a storage node's store
and the metadata engine; --cluster-rounds: a whole cluster that all goes dark at once, objects read
over S3, `ostraka fsck`. Needs root and loop devices; without them it says so and does nothing.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.powerloss.blackout import ClusterRounds
from tests.powerloss.image import Image, missing
from tests.powerloss.writer import READY

LOAD_S = (0.1, 5.0)  # of load before the end
POLL_S, CHECK_S = 1.0, 300.0
ENDING = 3000  # characters of what a process said last
FRAGMENTS_PER_ROUND = 1_000_000


@dataclass(slots=True)
class StoreRounds:
    """A storage node's store and the engine, in one process."""

    image: Image
    chance: Random
    told: list[str] = field(default_factory=list)

    def run(self, number: int) -> str:
        """One round; how it was cut. raises AssertionError if the one before has lost something"""
        self.image.mount()
        writer = self._start(str(FRAGMENTS_PER_ROUND * (number + 1)))
        ready = threading.Event()
        reader = threading.Thread(target=self._read, args=(writer, ready), daemon=True)
        reader.start()
        try:
            while not ready.wait(POLL_S):
                self._check_alive(writer)
            time.sleep(self.chance.uniform(*LOAD_S))
            way = self.image.cut_power(self.chance)
        finally:
            writer.kill()
            writer.wait()
            reader.join()
        self.image.unmount()
        self.image.mount()
        self.image.unmount()
        self.image.check()
        return way

    def finish(self) -> None:
        """Judge what the last round left. raises AssertionError"""
        self.image.mount()
        judge = self._start()
        _, said = judge.communicate(timeout=CHECK_S)
        assert judge.returncode == 0, said[-ENDING:]
        self.image.unmount()

    def _start(self, *first: str) -> "subprocess.Popen[str]":
        told = self.image.file.with_suffix(".told")
        told.write_text("\n".join(self.told))
        return subprocess.Popen(
            [sys.executable, "-m", "tests.powerloss.writer", str(self.image.mounted), str(told),
             *first],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def _check_alive(self, writer: "subprocess.Popen[str]") -> None:
        if writer.poll() is not None:
            assert writer.stderr is not None
            raise AssertionError(writer.stderr.read()[-ENDING:])

    def _read(self, writer: "subprocess.Popen[str]", ready: threading.Event) -> None:
        assert writer.stdout is not None
        for line in writer.stdout:
            if not line.endswith("\n"):
                return  # killed in the middle of a word
            if line == f"{READY}\n":
                ready.set()
            else:
                self.told.append(line.rstrip("\n"))

    def figures(self) -> str:
        """What was told in all rounds."""
        words = Counter(line.partition(" ")[0] for line in self.told)
        return ", ".join(f"{words[word]:,} {word}" for word in ("put", "deleted", "commit"))


def rounds(image: Image, made: StoreRounds | ClusterRounds, count: int) -> bool:
    """Run so many rounds; whether all went well."""
    ways: Counter[str] = Counter()
    name, begun_s = type(made).__name__, time.monotonic()
    number = 0
    try:
        for number in range(count):
            ways[made.run(number)] += 1
            print(f"{image.filesystem}: round {number + 1} of {count}", end="\r", flush=True)
        made.finish()
    except Exception as error:
        print(f"{image.filesystem}: {name} {number} FAILED: {error}", flush=True)
        return False
    seconds = time.monotonic() - begun_s
    print(
        f"{image.filesystem}: {name} {count}, {dict(ways)}, acknowledged {made.figures()},"
        f" nothing lost, {seconds:.0f} s",
        flush=True,
    )
    return True


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.powerloss.real", description=__doc__)
    parser.add_argument("--filesystem", default="ext4,xfs")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--cluster-rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="for the images; default: a temporary one")
    chosen = parser.parse_args(arguments)
    is_well = True
    for filesystem in chosen.filesystem.split(","):
        reason = missing(filesystem)
        if reason:
            print(f"{filesystem}: skipped, {reason}")
            continue
        folder = Path(tempfile.mkdtemp(prefix="powerloss-", dir=chosen.folder))
        image = Image(filesystem, folder)
        try:
            chance = Random(f"{filesystem} {chosen.seed}")
            if chosen.rounds:
                is_well &= rounds(image, StoreRounds(image, chance), chosen.rounds)
            if chosen.cluster_rounds:
                is_well &= rounds(image, ClusterRounds(image, chance), chosen.cluster_rounds)
        finally:
            image.unmount()
            shutil.rmtree(folder)
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
