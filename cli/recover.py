"""`ostraka recover`: what is left, made whole again. Each kind is a module, imported when asked."""

import importlib

import click

KINDS = {
    "metadata": "cli.recover_metadata",
    "disk": "cli.recover_disk",
    "namespace": "cli.recover_namespace",
}


class RecoverGroup(click.Group):
    """Finds sub-commands by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*KINDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = KINDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = importlib.import_module(module).command
        return command


@click.command("recover", cls=RecoverGroup)
def command() -> None:
    """Bring back what was lost: metadata, disks, the namespace."""
