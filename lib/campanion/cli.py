"""What the command lines share: commands that are imported when asked for, and every refusal as one sentence.

Exit status: 0 done, 1 something failed, 2 asked wrongly or something is missing, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pkgutil import resolve_name

import click

from campanion.errors import unknown

#: A number of images, epochs or cores, never 0, which would mean nothing at all or everything.
COUNT = click.IntRange(min=1)


def _device(_context: click.Context, _option: click.Parameter, name: str) -> str:
    import torch  # only to run: it takes seconds

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as problem:  # no such device, or a PyTorch without it
        raise click.UsageError(f"--device {name}: {str(problem).splitlines()[0]}") from problem
    return name


DEVICE = click.option("--device", default="cpu", show_default=True, callback=_device)


class Commands(click.Group):
    """A group of commands, some of other modules: ``module:command`` and a line of help by name."""

    elsewhere: Mapping[str, tuple[str, str]] = {}  # imported only to run: importing PyTorch takes seconds

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands, *self.elsewhere]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.elsewhere:
            return resolve_name(self.elsewhere[cmd_name][0])
        if cmd_name not in self.commands and not cmd_name.startswith("-"):
            raise click.UsageError(unknown("command", cmd_name, self.list_commands(ctx)))
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, command.get_short_help_str(100)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl([*rows, *((name, line) for name, (_, line) in self.elsewhere.items())])


def run(command: click.Command, arguments: Sequence[str] | None = None, program: str = "campanion") -> int:
    """Run a command line and return its exit status; what is refused is said in one sentence on stderr."""
    words = None if arguments is None else [str(word) for word in arguments]
    try:
        return command.main(words, prog_name=program, standalone_mode=False) or 0
    except click.ClickException as problem:
        sentence, status = problem.format_message(), 2
    except ModuleNotFoundError as problem:
        if (problem.name or "campanion").startswith("campanion"):
            raise
        install = "pip install 'campanion[notebooks,training]'"
        sentence, status = f"This needs the package {problem.name}, which is not installed: `{install}` brings it.", 2
    except (ValueError, OSError) as problem:
        sentence, status = str(problem), 2
    except (click.Abort, KeyboardInterrupt):
        sentence, status = "Interrupted; the same command goes on from here.", 130
    print(sentence, file=sys.stderr)
    return status
