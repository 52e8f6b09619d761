"""The `ostraka` command. Each sub-command is a module, imported only when it is asked for.

Exit codes: 0 done, 1 it could not be done (one line says why), 2 wrong usage or configuration,
130 interrupted.
"""

import importlib
from typing import Any

import click

from cli.service import SERVICES, service_command
from common import faults

COMMANDS = {
    "up": "cli.up",
    "down": "cli.down",
    "status": "cli.status",
    "admin": "cli.admin",
    "init": "cli.init",
    "durability": "cli.durability",
    "bench": "cli.bench",
    "fsck": "cli.fsck",
    "recover": "cli.recover",
    "backup": "cli.backup",
}
EXIT_FAILED, EXIT_INTERRUPTED = 1, 130


class OstrakaGroup(click.Group):
    """Finds sub-commands by name, and turns faults into one clear line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *SERVICES]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in SERVICES:
            return service_command(SERVICES[cmd_name])
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = importlib.import_module(module).command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except faults.Fault as fault:
            click.echo(f"ostraka: {faults.in_words(fault)}", err=True)
            ctx.exit(EXIT_FAILED)
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            raise  # whoever read our output has seen enough: click ends quietly
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            click.echo(f"ostraka: {place}{(error.strerror or str(error)).lower()}", err=True)
            ctx.exit(EXIT_FAILED)


@click.group(cls=OstrakaGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ostraka")
def main() -> None:
    """Ostraka: an erasure-coded object store that speaks Amazon S3."""


if __name__ == "__main__":
    main()
