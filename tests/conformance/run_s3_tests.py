"""Run the public S3 suite s3-tests against a cluster made for it.

`python -m tests.conformance.run_s3_tests --suite FOLDER [--python PYTHON] [pytest arguments]`: the
folder is a checkout of the suite, PYTHON an interpreter that has its requirements. Nothing of the
suite is kept here. docs/conformance.md says what passes and why the rest does not.
"""

import argparse
import configparser
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.cluster import Cluster

MAIN = ("0555b35654ad1656d804", "main-secret-key-of-the-suite", "000000000001", "testid")
ALT = ("NOPQRSTUVWXYZABCDEFG", "alt-secret-key-of-the-suite", "000000000002", "a" * 64)
TENANT = ("HIJKLMNOPQRSTUVWXYZA", "tenant-secret-key-of-the-suite", "000000000003", "b" * 64)
ROLES = {"s3 main": MAIN, "s3 alt": ALT, "s3 tenant": TENANT}
FILES = ("s3tests/functional/test_s3.py", "s3tests/functional/test_headers.py")


def bootstrap() -> str:
    """The accounts that the suite wants."""
    lines = ['region = "us-east-1"', 'domains = ["localhost"]']
    for section, (access_key, secret_key, account_id, canonical_id) in ROLES.items():
        lines += [
            "[[accounts]]",
            f'id = "{account_id}"',
            f'canonical_id = "{canonical_id}"',
            f'name = "{section}"',
            f'email = "{section.replace(" ", "-")}@example.com"',
            "[[accounts.keys]]",
            f'access_key = "{access_key}"',
            f'secret_key = "{secret_key}"',
        ]
    return "\n".join(lines) + "\n"


def configuration(port: int, sample: Path) -> configparser.RawConfigParser:
    """The suite's configuration: its sample, with our endpoint and accounts."""
    parser = configparser.RawConfigParser()
    parser.read(sample)
    parser["DEFAULT"].update({"host": "localhost", "port": str(port), "is_secure": "False"})
    for section, (access_key, secret_key, account_id, canonical_id) in ROLES.items():
        parser[section].update(
            {
                "access_key": access_key,
                "secret_key": secret_key,
                "user_id": canonical_id,
                "display_name": section,
                "email": f"{section.replace(' ', '-')}@example.com",
            }
        )
        assert account_id, "every account has an id"
    parser["s3 main"]["api_name"] = "us-east-1"
    return parser


def main() -> int:
    """Start a cluster, run the suite, stop the cluster; returns the suite's exit code."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--suite", type=Path, required=True)
    arguments.add_argument("--python", default=sys.executable)
    known, more = arguments.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(Path(folder))
        (Path(folder) / "bootstrap.toml").write_text(bootstrap())
        file = Path(folder) / "s3tests.conf"
        with file.open("w") as out:
            configuration(cluster.port, known.suite / "s3tests.conf.SAMPLE").write(out)
        try:
            cluster.start()
            command = [known.python, "-m", "pytest", "-q", "-m", "not fails_on_aws", *FILES, *more]
            environment = {**os.environ, "S3TEST_CONF": str(file)}
            return subprocess.run(command, cwd=known.suite, env=environment, check=False).returncode
        finally:
            cluster.stop()


if __name__ == "__main__":
    sys.exit(main())
