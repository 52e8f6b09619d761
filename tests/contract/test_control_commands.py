"""`ostraka admin` and `status` of a deployed cluster: against a real metadata service, by address.

Method: start the service on free loopback ports; run commands in a thread of this process.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from click.testing import CliRunner, Result

from cli.bootstrap import root_account
from cli.main import main
from cli.ports import free_port
from common.frames import FrameClient
from common.keyring import KeyRing
from common.process import Stopper
from metaservice.app import MetaServiceApp
from metaservice.client import MetaClient
from metaservice.config import MetaServiceConfig
from proto import meta_pb2, records_pb2

SECRET_KEY = "never shown again"
ACCOUNTS = f"""
[[accounts]]
id = "111111111111"
name = "alice"
[[accounts.keys]]
access_key = "ALICE"
secret_key = "{SECRET_KEY}"
"""


@pytest_asyncio.fixture
async def service(tmp_path: Path) -> AsyncIterator[MetaServiceConfig]:
    KeyRing.make().save(tmp_path / "keyring.json")
    config = MetaServiceConfig(
        directory=tmp_path / "meta",
        keyring_file=tmp_path / "keyring.json",
        port=free_port(),
        control_port=free_port(),
        admin_port=free_port(),
    )
    app = MetaServiceApp(config, Stopper())
    await app.start()
    yield config
    await app.stop()


async def run(service: MetaServiceConfig, *arguments: str) -> Result:
    command = [*arguments, "--control", f"127.0.0.1:{service.control_port}"]
    return await asyncio.to_thread(CliRunner().invoke, main, command)


async def shown(service: MetaServiceConfig, *arguments: str) -> Any:
    done = await run(service, *arguments)
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


async def test_bootstrap_applied_twice_changes_nothing(
    service: MetaServiceConfig, tmp_path: Path
) -> None:
    file, root_file = tmp_path / "accounts.toml", tmp_path / "credentials.toml"
    file.write_text(ACCOUNTS)
    root = root_account(root_file)
    pictures = []
    for _ in range(2):
        done = await run(service, "admin", "bootstrap", str(root_file), str(file))
        assert (done.exit_code, done.output) == (0, "accounts: 2, keys: 2; all there\n")
        pictures.append(
            [await shown(service, "admin", kind, "list") for kind in ("account", "key")]
        )
    assert pictures[0] == pictures[1]
    accounts, keys = pictures[0]
    assert {account["account_id"] for account in accounts} == {"111111111111", root.account_id}
    assert {key["access_key"] for key in keys} == {"ALICE", root.keys[0].access_key}
    assert SECRET_KEY not in json.dumps(pictures)


async def test_bootstrap_of_another_account_is_refused(
    service: MetaServiceConfig, tmp_path: Path
) -> None:
    file = tmp_path / "accounts.toml"
    file.write_text(ACCOUNTS)
    assert (await run(service, "admin", "bootstrap", str(file))).exit_code == 0
    for old, new, words in (
        ("alice", "bob", "account 111111111111 exists already"),
        (SECRET_KEY, "another secret", "access key ALICE exists already"),
    ):
        file.write_text(ACCOUNTS.replace(old, new))
        done = await run(service, "admin", "bootstrap", str(file))
        assert done.exit_code == 1
        assert words in done.output and "secret" not in done.output


@pytest.mark.parametrize("line", ['region = "us-east-1"', 'domains = ["s3.example.com"]'])
async def test_bootstrap_refuses_what_it_cannot_apply(
    service: MetaServiceConfig, tmp_path: Path, line: str
) -> None:
    file = tmp_path / "accounts.toml"
    file.write_text(line + ACCOUNTS)
    done = await run(service, "admin", "bootstrap", str(file))
    assert done.exit_code == 1
    assert done.output.startswith(f"ostraka: {line.split()[0]}: belongs into the configuration")
    assert await shown(service, "admin", "account", "list") == []


async def test_life_of_an_account(service: MetaServiceConfig) -> None:
    made = await shown(service, "admin", "account", "create", "--name", "bob")
    key = await shown(service, "admin", "key", "create", made["account_id"])
    assert len(key["secret_key"]) >= 40 and key["enabled"]
    (listed,) = await shown(service, "admin", "key", "list", made["account_id"])
    assert listed == {name: value for name, value in key.items() if name != "secret_key"}
    for option, enabled in (((), False), (("--enable",), True)):
        await run(service, "admin", "key", "disable", key["access_key"], *option)
        (listed,) = await shown(service, "admin", "key", "list")
        assert listed["enabled"] is enabled
    assert (await run(service, "admin", "key", "delete", key["access_key"])).exit_code == 0
    assert await shown(service, "admin", "key", "list") == []
    assert (await run(service, "admin", "account", "delete", made["account_id"])).exit_code == 0
    assert await shown(service, "admin", "account", "list") == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("account", "delete", "999999999999"), "there is no account 999999999999"),
        (("account", "create", "--name", "x", "--id", "12"), "account_id: not 12 digits (12)"),
        (("key", "create", "999999999999"), "there is no account 999999999999"),
        (("key", "delete", "NOBODY"), "there is no access key NOBODY"),
        (("key", "disable", "NOBODY"), "there is no access key NOBODY"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
async def test_refusals_are_one_line(
    service: MetaServiceConfig, arguments: tuple[str, ...], words: str
) -> None:
    done = await run(service, "admin", *arguments)
    assert (done.exit_code, done.output) == (1, f"ostraka: {words}\n")


async def test_status_by_address_keeps_the_contract(service: MetaServiceConfig) -> None:
    done = await run(service, "status", "--json")
    assert done.exit_code == 1
    assert json.loads(done.output)["state"] == "unavailable"  # no disk yet
    frames = FrameClient("127.0.0.1", service.port)
    await frames.start()
    await frames.wait_up(5)
    for number in range(1, 7):
        node = records_pb2.Node(
            name=f"node-{number}", zone=f"zone-{number}", address=f"host:{number}", incarnation=1
        )
        disk = records_pb2.Disk(disk_uuid=bytes([number]) * 16, capacity_bytes=10, used_bytes=4)
        await MetaClient(frames, deadline_s=2).heartbeat(
            meta_pb2.Heartbeat(node=node, disks=[disk])
        )
    picture = await shown(service, "status", "--json")
    await frames.stop()
    assert (picture["state"], picture["survives"]) == ("healthy", "any 2 zones")
    assert (picture["capacity_bytes"], picture["used_bytes"]) == (60, 24)
    first, *nodes = picture["processes"]
    address = f"127.0.0.1:{service.control_port}"
    assert (first["role"], first["address"]) == ("metaservice", address)
    assert nodes == [
        {
            "role": "storagenode", "name": f"node-{number}", "zone": f"zone-{number}",
            "pid": None, "address": f"host:{number}", "state": "running",
        }
        for number in range(1, 7)
    ]  # fmt: skip
    text = (await run(service, "status")).output
    assert "healthy" in text and "any 2 zones" in text and "node-6" in text


async def test_silent_service_is_unavailable() -> None:
    silent = MetaServiceConfig(Path("x"), Path("x"), control_port=free_port())
    done = await run(silent, "status", "--json")
    assert done.exit_code == 1 and json.loads(done.output)["state"] == "unavailable"
    done = await run(silent, "admin", "account", "list")
    assert done.exit_code == 1 and done.output.startswith("ostraka: ")
    assert done.output.count("\n") == 1


async def test_bootstrap_waits_for_a_service_that_is_about_to_start(
    service: MetaServiceConfig, tmp_path: Path
) -> None:
    file = tmp_path / "accounts.toml"
    file.write_text(ACCOUNTS)
    late = MetaServiceConfig(
        tmp_path / "late", service.keyring_file, control_port=free_port(), port=free_port()
    )
    was_called = asyncio.Event()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        was_called.set()

    async with await asyncio.start_server(hang_up, "127.0.0.1", late.control_port):
        waiting = asyncio.create_task(run(late, "admin", "bootstrap", "--wait", "30", str(file)))
        await asyncio.wait_for(was_called.wait(), 20)
    app = MetaServiceApp(late, Stopper())
    await app.start()
    try:
        assert (await waiting).exit_code == 0
    finally:
        await app.stop()
