"""What the metadata's journal costs: two local clusters, with and without, measured in turn.

Prints the load program's page of small objects for both; the pair of lines of a scenario is the
price. Both clusters run all the time, so each has half the machine's idle work.

    python -m benchmarks.journal --rounds 4 --seconds 4
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load.__main__ import run
from benchmarks.load.endpoint import Endpoint, parse_endpoint
from cli.ports import free_port
from cli.processes import ROOT, ostraka
from common import faults

SETTINGS = {
    "with a journal": '[metaservice]\njournal = "on"\n',
    "without": '[metaservice]\njournal = "off"\n',
}
SMALL = " 4 KiB"
UP_S = 120.0


@contextmanager
def cluster(name: str, folder: Path) -> Iterator[Endpoint]:
    """A started cluster, gone afterwards. raises Unavailable"""
    folder.mkdir()
    (folder / "settings.toml").write_text(SETTINGS[name])
    command("up", f"--directory={folder}", f"--port={free_port()}", "--gateways=2", "--detach")
    try:
        yield parse_endpoint(f"{name}={folder}")
    finally:
        command("down", f"--directory={folder}")


def command(*arguments: str) -> None:
    """Run `ostraka`. raises Unavailable"""
    done = subprocess.run(
        ostraka(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=UP_S, check=False
    )
    if done.returncode:
        raise faults.Unavailable(done.stderr.strip())


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.journal",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="per scenario and round")
    parser.add_argument("--rounds", type=int, default=4, help="of every scenario, interleaved")
    parser.add_argument("--only", default=SMALL, help="scenarios whose title holds this pattern")
    parser.add_argument("--output", type=Path, help="also write the page to this file")
    arguments = parser.parse_args()
    arguments.list_keys = ""
    first, second = SETTINGS
    with (
        tempfile.TemporaryDirectory(prefix="ostraka-journal-") as folder,
        cluster(first, Path(folder) / "with") as with_journal,
        cluster(second, Path(folder) / "without") as without,
    ):
        run([with_journal, without], arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
