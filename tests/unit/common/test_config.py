"""Configuration from file and environment: mistakes stop the start, others' variables do not."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from common import faults
from common.config import load


@dataclass(frozen=True, slots=True)
class Limits:
    """A section."""

    count_max: int = 5
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Config:
    """A process."""

    name: str
    port: int = 0
    log_level: str = "info"
    connections: Limits = field(default_factory=Limits)
    secret_file: Path | None = None


@dataclass(frozen=True, slots=True)
class OtherConfig:
    """Another process."""

    name: str
    extent_bytes: int = 1


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTRAKA_NAME", "me")


def read(path: Path | None = None) -> tuple[Config, list[str]]:
    told: list[str] = []
    return load(Config, path, [OtherConfig], told.append), told


def test_variables_override_fields_and_sections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file.toml"
    file.write_text('name = "file"\nport = 1\n[connections]\ncount_max = 2\n')
    monkeypatch.setenv("OSTRAKA_PORT", "7")
    monkeypatch.setenv("OSTRAKA_CONNECTIONS__HOSTS", "a, b")
    monkeypatch.setenv("OSTRAKA_SECRET_FILE", "/run/secret")
    config, told = read(file)
    assert (config.name, config.port) == ("me", 7)
    assert config.connections == Limits(2, ("a", "b"))
    assert config.secret_file == Path("/run/secret")
    assert not told


def test_settings_of_other_processes_are_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTRAKA_EXTENT_BYTES", "no number, and not looked at")
    assert read() == (Config("me"), [])


@pytest.mark.parametrize(
    "name", ["IMAGE", "VERSION", "PORT_9000_TCP_ADDR", "SERVICE_HOST", "", "_"]
)
def test_what_is_nobodys_is_told_of_once_and_ignored(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"OSTRAKA_{name}", "tcp://10.0.0.1:9000")
    monkeypatch.setenv("OSTRAKA_XYZZY", "1")
    config, told = read()
    assert config == Config("me")
    [words] = told
    assert f"OSTRAKA_{name}" in words and "OSTRAKA_XYZZY" in words and "10.0.0.1" not in words


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("LOG_LEVL", "LOG_LEVEL"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("PORTS", "PORT"),
        ("CONNECTIONS_COUNT_MAX", "CONNECTIONS__COUNT_MAX"),
        ("EXTENTS_BYTES", "EXTENT_BYTES"),
    ],
)
def test_a_mistyped_setting_stops_the_start_and_is_told(
    monkeypatch: pytest.MonkeyPatch, wrong: str, right: str
) -> None:
    monkeypatch.setenv(f"OSTRAKA_{wrong}", "1")
    with pytest.raises(faults.Invalid, match=f"did you mean OSTRAKA_{right}\\?"):
        read()


def test_what_may_be_a_mistake_is_told_with_what_may_be_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OSTRAKA_PROT", "1")
    assert "OSTRAKA_PROT (did you mean OSTRAKA_PORT?)" in read()[1][0]


def test_a_section_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTRAKA_CONNECTIONS", "1")
    with pytest.raises(faults.Invalid, match="is a section"):
        read()


def test_a_wrong_value_is_told_with_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTRAKA_PORT", "tcp://10.0.0.1:9000")
    with pytest.raises(faults.Invalid, match="port"):
        read()


@pytest.mark.parametrize("text", ["ports = 1", "[connections]\ncount = 1", "connections = 1", "="])
def test_mistakes_in_the_file_stop_the_start(tmp_path: Path, text: str) -> None:
    file = tmp_path / "file.toml"
    file.write_text(text)
    with pytest.raises(faults.Invalid):
        read(file)


def test_a_field_where_a_section_belongs_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file.toml"
    file.write_text("connections = 1")
    monkeypatch.setenv("OSTRAKA_CONNECTIONS__COUNT_MAX", "1")
    with pytest.raises(faults.Invalid, match="section"):
        read(file)
