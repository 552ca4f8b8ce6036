"""The state of a training run in one file: written beside, then moved into place.

Tensors and, in the header, JSON: reading a state executes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from braindecode_clip.errors import DataError

STATE_FILE = "training_state.safetensors"
#: Weights of the best held-out retrieval so far.
BEST_FILE = "best_weights.safetensors"
_HEADER = "state"


@dataclass(frozen=True)
class TrainingState:
    """Everything that the next step depends on.

    Attributes
    ----------
    step : int
        Steps done.
    tensors : dict
        ``model.*`` and ``optimiser.<moment>.<parameter>``.
    facts : dict
        JSON-able, what the run was started with: recipe, digest of the data, numbers of threads
        and of processes.
    progress : dict
        JSON-able, what the run has come to: fields of :class:`Progress`, state of the loss
        scaler, losses since the last row of the log.
    """

    step: int
    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]
    progress: dict[str, Any] = field(default_factory=dict)


@dataclass
class Progress:
    """What held-out retrieval has said so far.

    Attributes
    ----------
    best : float
        Highest mean of the two R@1; below 0 before the first.
    best_step : int
        Steps done then.
    n_worse : int
        Retrievals since, none of them better.
    is_stopped : bool
        Whether that was often enough to end the run.
    """

    best: float = -1.0
    best_step: int = 0
    n_worse: int = 0
    is_stopped: bool = False

    def take_up(self, score: float, step: int, *, patience: int | None) -> bool:
        """Take note of a retrieval; tell whether it is the best so far."""
        if score > self.best:
            self.best, self.best_step, self.n_worse = score, step, 0
            return True
        self.n_worse += 1
        self.is_stopped = patience is not None and self.n_worse >= patience
        return False


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside ``path`` and move it into place when the block succeeds."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        # safetensors makes files that only the owner can read; models follow the umask.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def capture(
    step: int,
    model: torch.nn.Module,
    optimiser: torch.optim.Optimizer | None,
    *,
    facts: dict[str, Any],
    progress: dict[str, Any],
) -> TrainingState:
    """Collect the state after ``step`` steps (references, no copies).

    The schedule, the order of the pairs, their wordings and every random number of a step are
    functions of seed and step, so the step stands for them all.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    moments = {} if optimiser is None else optimiser.state
    for name, parameter in model.named_parameters():
        for moment, value in moments.get(parameter, {}).items():
            tensors[f"optimiser.{moment}.{name}"] = value
    return TrainingState(step, tensors, facts, progress)


def restore(state: TrainingState, model: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Put a captured state back into a model and an optimiser of the same recipe."""
    model.load_state_dict(_part(state.tensors, "model."))
    moments = _part(state.tensors, "optimiser.")
    for name, parameter in model.named_parameters():
        kept = {
            key.split(".", 1)[0]: value
            for key, value in moments.items()
            if key.split(".", 1)[1] == name
        }
        if kept:
            optimiser.state[parameter] = {
                moment: value.to(parameter.device).to(
                    memory_format=torch.channels_last
                    if _is_channels_last(parameter) and value.ndim == 4
                    else torch.contiguous_format
                )
                for moment, value in kept.items()
            }


def write_state(path: Path, state: TrainingState) -> None:
    """Write a state in one step; an interrupted write leaves the old one."""
    facts = {"step": state.step, "facts": state.facts, "progress": state.progress}
    header = {_HEADER: json.dumps(facts)}
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.tensors.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=header)


def read_state(path: Path) -> TrainingState:
    """Read a state.

    Raises
    ------
    DataError
        The file is damaged or something else.
    """
    return _read(path, with_tensors=True)


def read_header(path: Path) -> dict[str, Any]:
    """Return ``step``, ``facts`` and ``progress`` of a state without reading its tensors.

    Raises
    ------
    DataError
        The file is damaged or something else.
    """
    state = _read(path, with_tensors=False)
    return {"step": state.step, "facts": state.facts, "progress": state.progress}


def _read(path: Path, *, with_tensors: bool) -> TrainingState:
    try:
        with safe_open(path, framework="pt") as stream:
            header = json.loads(stream.metadata()[_HEADER])
            names = stream.keys() if with_tensors else ()
            tensors = {name: stream.get_tensor(name) for name in names}
        return TrainingState(header["step"], tensors, header["facts"], header["progress"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: no readable training state ({error}). Delete it and start the training "
            "again without --resume."
        ) from error


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _is_channels_last(parameter: torch.Tensor) -> bool:
    return parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
