"""`ostraka init`: what the processes of a deployed cluster share, made once.

D/keys/keyring.json       master keys: gateways and the metadata service only
D/keys/credentials.toml   the root account and its key pair, as a bootstrap file
D/peers/secret            what all processes prove to one another

The two folders can be volumes of their own, so that storage nodes never see a key that opens data.
`ostraka up` keeps the same files in its cluster's folder.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cli.bootstrap import root_account
from cli.folder import make_secrets
from common import faults
from common.keyring import KeyRing

DEFAULT_SHARED = Path("/etc/ostraka")


class SharedFiles:
    """The files of one deployed cluster that are made, never configured."""

    def __init__(self, directory: Path) -> None:
        self.keyring = directory / "keys" / "keyring.json"
        self.credentials = directory / "keys" / "credentials.toml"
        self.secret = directory / "peers" / "secret"

    @property
    def all(self) -> tuple[Path, ...]:
        return (self.keyring, self.secret, self.credentials)

    def make(self) -> list[Path]:
        """Make what is missing, readable by its owner only; durable when this returns.

        returns  what was made; nothing the second time
        raises   Invalid if something there is damaged or open to others, or if the key ring is
                 missing though the rest is there: a new one would open nothing that was stored
        """
        for folder in (self.keyring.parent, self.secret.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _held(self.keyring.parent):
            missing = [path for path in self.all if not path.exists()]
            if self.keyring in missing and len(missing) < len(self.all):
                raise faults.Invalid(
                    "key ring", str(self.keyring), "is missing: restore it from its backup"
                )
            make_secrets(self.keyring, self.secret)
            root_account(self.credentials)
            KeyRing.load(self.keyring)
            for path in (self.secret, self.credentials):
                if path.stat().st_mode & 0o077:
                    raise faults.Invalid(path.name, str(path), "must be mode 600")
        return missing


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """One at a time: two that begin together must not each make a key ring."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@click.command("init")
@click.option(
    "--directory", type=click.Path(path_type=Path), default=DEFAULT_SHARED, show_default=True,
    help="Where the folders keys and peers are made.",
)  # fmt: skip
def command(directory: Path) -> None:
    """Make the key ring, the secret and the root key pair of a cluster to deploy.

    Files that are there stay as they are. Nothing secret is printed. Not needed for `ostraka up`.
    """
    files = SharedFiles(directory.absolute())
    made = files.make()
    say: Callable[[Path], str] = lambda path: "made" if path in made else "kept"  # noqa: E731
    click.echo(f"{say(files.keyring)} {files.keyring}: back it up; without it no data is readable")
    click.echo(f"{say(files.secret)} {files.secret}: give it to every process")
    click.echo(f"{say(files.credentials)} {files.credentials}: the root key pair")
