"""`ostraka bench faults` as a user runs it: a cluster of its own, and another store by commands.

Method: the command itself with short times; the record it leaves is read, the page looked into.
That figures are right is tests/unit/benchmarks' business.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults.measures import figures
from benchmarks.faults.record import load_run
from tests.support.cluster import ACCESS_KEY, SECRET_KEY, Cluster

RUN_S = 240.0
SHORT = (
    "--before=1.5", "--hold=1", "--after=1.5", "--patience=5", "--rate=60", "--clients=4",
    "--objects=32", "--size=20000",
)  # fmt: skip
TEST_ONLY = {"boto3", "botocore", "pandas", "pytest", "hypothesis", "yaml", "s3fs"}


def bench(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "bench", "faults", "--report", str(folder / "r.html"),
         *arguments],
        capture_output=True, text=True, timeout=RUN_S, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_local_cluster_hurt_and_healed(tmp_path: Path) -> None:
    done = bench(
        tmp_path, *SHORT, "--scenario=node-killed", "--scenario=metadata-killed",
        f"--directory={tmp_path / 'stores'}", f"--picture={tmp_path / 'p.svg'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = load_run(tmp_path / "r.json")
    assert [scenario.name for scenario in run.scenarios] == ["node-killed", "metadata-killed"]
    for scenario in run.scenarios:
        figure = figures(scenario)
        assert figure.requests > 100
        assert (figure.failed, figure.lost_bytes, figure.wrong_reads) == (0, 0, 0)
        assert figure.objects >= 32
        assert figure.detect_s is not None
    page = (tmp_path / "r.html").read_text()
    assert page.count("<svg") == 2
    assert (tmp_path / "p.svg").read_text().startswith("<svg")
    assert "One node killed" in done.stdout
    assert not any((tmp_path / "stores").iterdir()), "the cluster is gone"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_any_endpoint_hurt_by_commands(tmp_path: Path, cluster: Cluster) -> None:
    pid = cluster.pid_of("node-4")
    store = tmp_path / "store.toml"
    store.write_text(
        f'name = "Another"\nendpoint = "{cluster.endpoint}"\naccess_key = "{ACCESS_KEY}"\n'
        f'secret_key = "{SECRET_KEY}"\nhealth = "kill -0 {pid}"\n[faults.frozen]\n'
        f'begin = "kill -STOP {pid}"\nend = "kill -CONT {pid}"\n'
    )
    listed = bench(tmp_path, "--store", str(store), "--list")
    assert (listed.returncode, listed.stdout) == (0, "frozen\n")
    done = bench(tmp_path, *SHORT, "--store", str(store))
    assert done.returncode == 0, done.stderr
    (scenario,) = load_run(tmp_path / "r.json").scenarios
    assert [mark.words for mark in scenario.marks] == ["frozen", "undone"]
    assert figures(scenario).lost_bytes == 0
    both = bench(tmp_path, "--compare", str(tmp_path / "r.json"), str(tmp_path / "r.json"))
    assert both.returncode == 0
    assert (tmp_path / "r.html").read_text().count("<figure") == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scenario", "meteorite"), "is none of node-killed"),
        (("--store", "{folder}/nowhere.toml"), "no such file"),
        (("--store", "{folder}/strange.toml"), "has no 'name'"),
        (("--compare", "{folder}/strange.toml"), "is no run of this benchmark"),
        (("--compare",), "belong together"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "strange.toml").write_text("a = 1\n")
    done = bench(tmp_path, *[argument.format(folder=tmp_path) for argument in arguments])
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_needs_nothing_that_only_tests_install() -> None:
    """`ostraka bench` is part of the product: what it imports comes with the product."""
    code = "import sys, json, cli.bench; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert not loaded & TEST_ONLY
    ours = {"benchmarks", "cli", "common", "proto"}
    assert ours <= loaded
