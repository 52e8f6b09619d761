"""The house rules that a machine can check: lint, types, layers, sizes, generated files, docs.

Method: run the tools; walk the syntax trees of all hand-written modules.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from cli.folder import ClusterFolder
from common.config import load
from gateway.config import GatewayConfig
from metaservice.config import MetaServiceConfig
from storagenode.config import StorageNodeConfig
from tools import generate_docs
from workers.config import WorkersConfig

ROOT = Path(__file__).parent.parent
PACKAGES = (
    "common", "gateway", "metaservice", "storagenode", "workers", "cli", "benchmarks", "tools",
)  # fmt: skip
FILE_LINES_MAX, FUNCTION_LINES_MAX, PARAMETERS_MAX = 500, 60, 6
BANNED_NAMES = {"utils.py", "helpers.py", "misc.py", "manager.py"}


def modules() -> list[Path]:
    found = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
    return [path for path in found if "gateway/s3/model" not in path.as_posix()]


def run(*command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False,
        timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff() -> None:
    run("ruff", "check", *PACKAGES, "tests")


def test_ruff_format() -> None:
    run("ruff", "format", "--check", *PACKAGES)


def test_mypy() -> None:
    run("mypy")


def test_import_contracts() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports")], cwd=ROOT, capture_output=True,
        text=True, check=False, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_generated_stubs_are_current() -> None:
    run("tools.generate_stubs", "--check")


def modules_of_tests() -> list[Path]:
    return sorted((ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize(
    "path", modules() + modules_of_tests(), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_sizes(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= FILE_LINES_MAX
    assert path.name not in BANNED_NAMES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{node.name} has {lines} lines"


def test_no_import_inside_functions() -> None:
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = [n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
                assert not inner, f"{path}: {node.name}"


@pytest.mark.parametrize("name", sorted(generate_docs.PAGES))
def test_generated_pages_are_current(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == generate_docs.PAGES[name]()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("gateway", GatewayConfig),
        ("metaservice", MetaServiceConfig),
        ("storagenode", StorageNodeConfig),
        ("workers", WorkersConfig),
    ],
)
def test_deployed_configurations_load(name: str, kind: type) -> None:
    assert load(kind, ROOT / "deploy" / "config" / f"{name}.toml") is not None


def test_a_cluster_folder_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cluster.json").write_text('{"format": 99}')
    with pytest.raises(Exception, match="newer"):
        ClusterFolder(tmp_path).load()
