"""``braindecode-clip``: one command for each stage.

Commands import what they need when they run, so ``--help`` answers at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from braindecode_clip import __version__
from braindecode_clip.errors import BraindecodeError
from braindecode_clip.logs import set_up_logging

#: Command, one line of help. The module is ``braindecode_clip.cli.<command>``, which holds a
#: function of that name, or a typer application ``app`` with sub-commands.
COMMANDS = {
    "simulate": "Make the embedded data set: scenes, and subjects with known truth, in BIDS.",
    "preprocess": "Clean one run: mask, confounds and drifts regressed out, scaled.",
    "betas": "Estimate one response for each trial and voxel of a run.",
    "voxels": "Select and scale the voxels of an ROI, split into train and test.",
    "embed": "Turn pictures or captions into CLIP vectors.",
    "decode": "Fit a decoder on the training trials and predict the test trials.",
    "retrieve": "Rank candidates by their similarity to each prediction.",
    "evaluate": "Score the ranks, with chance, interval and p-value.",
    "interpret": "Map what was decoded, and from where.",
    "report": "Write everything into one HTML page.",
    "clip": "Train and evaluate CLIP models.",
    "config": "Check a study's config, or print its schema.",
}


class LazyCommands(click.Group):
    """A group that imports a command's module only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the pipeline."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        import typer

        module = importlib.import_module(f"braindecode_clip.cli.{cmd_name}")
        if hasattr(module, "app"):
            app = module.app
        else:
            app = typer.Typer(add_completion=False, rich_markup_mode=None)
            app.command(name=cmd_name)(getattr(module, cmd_name))
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or suggest the nearest one."""
        import difflib

        name = args[0]
        if name not in COMMANDS:
            near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            ctx.fail(f"No such command '{name}'.{hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="braindecode-clip")
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
def cli(verbose: bool) -> None:
    """From fMRI volumes to image identification in CLIP space.

    Each command is one stage; the Snakemake workflow calls them in order. `COMMAND --help`
    lists the stage's options. Exit codes: 0 done, 1 a problem of data or config (named in one
    message), 2 wrong usage.
    """
    set_up_logging(verbose=verbose)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; ``sys.argv[1:]`` by default.
    """
    try:
        result = cli.main(
            args=list(sys.argv[1:] if argv is None else argv),
            prog_name="braindecode-clip",
            standalone_mode=False,
        )
    except BraindecodeError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output (a pager, head) has gone; nothing is left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result if isinstance(result, int) else 0


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
