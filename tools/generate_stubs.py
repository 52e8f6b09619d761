"""Generate Python stubs of proto/*.proto beside their sources; `--check` only compares.

Run from the repository root, so that stubs import each other as `proto.x_pb2`.
"""

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

SOURCES = sorted(Path("proto").glob("*.proto"))
WITH_SERVICES = {"admin.proto"}


def generate(target: Path) -> list[Path]:
    """Write all stubs below `target` and list them, relative to it."""
    for source in SOURCES:
        arguments = ["protoc", "-I.", f"--python_out={target}", f"--mypy_out={target}"]
        if source.name in WITH_SERVICES:
            arguments.append(f"--grpc_python_out={target}")
        if protoc.main([*arguments, str(source)]) != 0:
            raise SystemExit(f"protoc refused {source}")
    return sorted(path.relative_to(target) for path in (target / "proto").glob("*_pb2*"))


def main() -> None:
    if "--check" not in sys.argv:
        generate(Path())
        return
    with tempfile.TemporaryDirectory() as folder:
        for path in generate(Path(folder)):
            if (Path(folder) / path).read_text() != path.read_text():
                raise SystemExit(f"{path} is not what its source generates: run make generate")


if __name__ == "__main__":
    main()
