"""The command as a whole: help everywhere, wrong usage, faults as one line, exit codes.

Method: run commands in this process; none of these reaches a cluster.
"""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from cli.main import main
from common import faults


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def every_command(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from every_command(found, (*path, name))


COMMANDS = list(every_command(main))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_is_everywhere(path: tuple[str, ...], option: str) -> None:
    done = run(*path, option)
    assert done.exit_code == 0
    assert done.output.startswith("Usage: ") and "--help" in done.output


def test_expected_commands_are_there() -> None:
    names = {
        "up", "down", "status", "init", "gateway", "metaservice", "storagenode", "workers",
        "admin bootstrap", "admin account create", "admin account list", "admin account delete",
        "admin key create", "admin key list", "admin key disable", "admin key delete",
    }  # fmt: skip
    assert names <= {" ".join(path) for path in COMMANDS}


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("up", "--nonsense"),
        ("up", "surplus"),
        ("up", "--port", "0"),
        ("up", "--port", "65536"),
        ("up", "--port", "http"),
        ("up", "--zones", "0"),
        ("up", "--zones", "13"),
        ("up", "--gateways", "0"),
        ("gateway", "--processes", "-1"),
        ("workers", "--processes", "2"),
        ("status", "--control", "metaservice"),
        ("status", "--control", "metaservice:99999"),
        ("admin", "account", "create"),
        ("admin", "account", "delete"),
        ("admin", "key", "create"),
        ("admin", "key", "list", "--control", "a:b"),
        ("admin", "bootstrap"),
        ("admin", "nonsense"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_told_with_code_2(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert "Error: " in done.output and "Traceback" not in done.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("down",),
        ("status",),
        ("status", "--json"),
        ("admin", "account", "list"),
        ("admin", "key", "create", "111111111111"),
    ],
    ids=" ".join,
)
def test_absent_cluster_is_one_line_with_code_1(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run(*arguments, "--directory", str(tmp_path / "absent"))
    assert done.exit_code == 1
    assert done.output == f"ostraka: there is no cluster in {tmp_path / 'absent'}\n"


@pytest.mark.parametrize("service", ["gateway", "metaservice", "storagenode", "workers"])
def test_bad_configuration_is_one_line_with_code_2(service: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    for text, words in (
        ("colour = 1", "colour: unknown setting (1)"),
        ("= 1", f"line 1, column 1) ({path})"),
        ("log_level = 'loud'", "log_level: must be one of"),
        ("admin_port = '1'", "admin_port: must be int (1)"),
        ("", "missing setting"),
    ):
        path.write_text(text)
        done = run(service, "--config", str(path))
        assert done.exit_code == 2
        assert done.output.startswith(f"ostraka {service}: ") and done.output.count("\n") == 1
        assert words in done.output
    done = run(service, "--config", str(tmp_path / "absent.toml"))
    assert done.exit_code == 2 and "absent.toml" in done.output


def test_node_on_all_addresses_must_say_where_it_is_reached(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        'name = "n"\nzone = "z"\ndisks = ["d"]\nmetaservice_host = "m"\nmetaservice_port = 7\n'
        'host = "0.0.0.0"\n'
    )
    done = run("storagenode", "--config", str(path))
    assert done.exit_code == 2 and "needs an advertise_host" in done.output


def test_unreadable_bootstrap_file_makes_no_cluster(tmp_path: Path) -> None:
    done = run(
        "up", "--directory", str(tmp_path / "cluster"), "--bootstrap", str(tmp_path / "absent.toml")
    )
    assert done.exit_code == 1 and "absent.toml" in done.output
    assert not (tmp_path / "cluster").exists()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (faults.Invalid("port", "80", "is taken"), "port: is taken (80)"),
        (faults.Invalid("", "", "is wrong"), "is wrong"),
        (faults.NotFound("account", "1"), "there is no account 1"),
        (faults.NotFound("session"), "there is no session"),
        (faults.AlreadyExists("account", "1"), "account 1 exists already, and is another one"),
        (faults.Unavailable("it is away"), "it is away"),
        (faults.Full("no room"), "no room"),
        (faults.Busy(), "Busy"),
        (faults.Forbidden("delete", "bucket"), "Forbidden"),
    ],
)
def test_faults_have_words(fault: faults.Fault, words: str) -> None:
    assert faults.in_words(fault) == words


def test_interruption_has_its_own_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupt(path: Path) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "read_text", interrupt)
    done = run("status", "--directory", str(tmp_path))
    assert done.exit_code == 130
