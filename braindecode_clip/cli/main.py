"""``braindecode-clip``: one command for each stage.

Commands import what they need when they run, so ``--help`` answers at once.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from braindecode_clip import __version__
from braindecode_clip.errors import BraindecodeError
from braindecode_clip.logs import set_up_logging

#: Command, one line of help. The module is ``braindecode_clip.cli.<command>``, which holds a
#: function of that name, or a typer application ``app`` with sub-commands.
COMMANDS = {
    "simulate": "Make the embedded data set: scenes, and subjects with known truth, in BIDS.",
    "realign": "Correct motion and slice timing of a raw run, where there is no fMRIPrep.",
    "mask": "Compute a brain mask from the runs of a subject, where there is none.",
    "preprocess": "Clean one run: mask, confounds and drifts regressed out, scaled.",
    "tune": "Choose responses, noise regressors and penalties from all runs of a subject.",
    "betas": "Estimate one response for each trial and voxel of a run.",
    "quality": "Describe the quality of a run: numbers, warnings, a figure.",
    "voxels": "Select and scale the voxels of an ROI, split into train and test.",
    "encoders": "List encoders, their sizes, licences, and which are on this machine.",
    "embed": "Turn pictures or captions into CLIP vectors.",
    "decode": "Fit a decoder on the training trials and predict the test trials.",
    "decode-shared": "Fit a decoder on all subjects together and predict the test trials of each.",
    "surface": "Score fewer training data, repeats and candidates, and extrapolate.",
    "calibration-curve": "Score a new subject after its first runs, alone and helped by others.",
    "bottleneck": "Score decoders of every rank, and a random prior.",
    "importance": "Measure what a decoder loses without one part of its ROI.",
    "retrieve": "Rank candidates by their similarity to each prediction.",
    "gallery": "Encode candidates beyond the study's stimuli: pictures or texts.",
    "nearest": "Find the pictures or texts nearest to each prediction.",
    "evaluate": "Score the ranks, with chance, interval and p-value.",
    "controls": "Ask whether the identification could be spurious.",
    "compare": "Put decoders side by side, and choose by validation; or compare two cards.",
    "card": "Say what a number is a number of.",
    "group": "Compare over subjects, ROIs and decoders, with corrected p-values.",
    "audit": "Ask whether adapting the encoder helped decoding.",
    "interpret": "Map what was decoded, and from where.",
    "report": "Write everything into one HTML page.",
    "clip": "Train and evaluate CLIP models.",
    "search": "Find pictures by words or by pictures, and near duplicates.",
    "zero-shot": "Classify pictures by the names of classes, without training.",
    "config": "Check a study's config, or print its schema.",
}


class LazyCommands(TyperGroup):
    """A group that imports a command's module only when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the pipeline."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        module = importlib.import_module(f"braindecode_clip.cli.{name}")
        if hasattr(module, "app"):
            stage = module.app
        else:
            stage = typer.Typer(add_completion=False, rich_markup_mode=None)
            stage.command(name=cmd_name)(getattr(module, name))
        command = typer.main.get_command(stage)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command, or suggest the nearest one."""
        if args[0] not in COMMANDS:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1, cutoff=0.5)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            ctx.fail(f"No such command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=LazyCommands,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"braindecode-clip {__version__}")
        raise typer.Exit


@app.callback()
def braindecode_clip(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    """From fMRI volumes to image identification in CLIP space.

    Each command is one stage; the Snakemake workflow calls them in order. `COMMAND --help`
    lists the stage's options. Exit codes: 0 done, 1 a problem of data or config (named in one
    message), 2 wrong usage, 3 (`compare` of two cards) not comparable.
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
        app(args=list(sys.argv[1:] if argv is None else argv), prog_name="braindecode-clip")
    except BraindecodeError as error:
        typer.echo(f"error: {error}", err=True)
        return error.exit_code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
