"""Random changes of a model's weights as large as those of a given adaptation."""

from __future__ import annotations

import numpy as np

from braindecode_clip.checks import Problems, some

#: Endings of what is no weight: statistics and counts of batch norm.
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
#: The factor on the cosines; no vector depends on it.
SCALES = ("logit_scale", "logit_bias")


def perturbed(
    initial: dict[str, np.ndarray], adapted: dict[str, np.ndarray], *, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    r"""Add to every weight tensor noise of the norm of its change in adaptation.

    .. math:: W' = W_0 + \lVert W_1 - W_0 \rVert_F \, \frac{E}{\lVert E \rVert_F}

    with the entries of E drawn from a standard normal. Buffers and the scale of the cosines stay
    as they are.

    Parameters
    ----------
    initial, adapted : dict of str to ndarray
        State before and after the adaptation, of the same towers.
    rng : Generator

    Returns
    -------
    dict of str to ndarray
        Of the dtypes of ``initial``.
    dict of str to float
        Norm of the change of each tensor that changed.

    Raises
    ------
    DataError
        Other names or shapes.
    """
    problems = Problems("perturb")
    apart = sorted(initial.keys() ^ adapted.keys())
    if apart:
        problems.add(f"tensors that only one of the models has: {some(apart)}.")
    for name in sorted(initial.keys() & adapted.keys()):
        if initial[name].shape != adapted[name].shape:
            problems.add(
                f"{name} has shape {initial[name].shape} before and {adapted[name].shape} after."
            )
    problems.raise_if_any()
    changed, norms = {}, {}
    for name in sorted(initial):
        before = initial[name]
        is_weight = np.issubdtype(before.dtype, np.floating) and not name.endswith(
            (*BUFFERS, *SCALES)
        )
        norm = float(
            np.linalg.norm((adapted[name].astype(np.float64) - before.astype(np.float64)).ravel())
        )
        if not is_weight or norm == 0:
            changed[name] = before
            continue
        noise = rng.standard_normal(before.shape)
        noise *= norm / np.linalg.norm(noise.ravel())
        changed[name] = (before.astype(np.float64) + noise).astype(before.dtype)
        norms[name] = norm
    return changed, norms
