"""Brain maps: which are shown, joined over regions, and what is said of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from braindecode_clip.report.brains import MapStyle, brain_figure
from braindecode_clip.report.content import Inputs, VoxelMap
from braindecode_clip.report.numbers import count, quantity
from braindecode_clip.report.results import Order
from braindecode_clip.report.sections import Block, Drawing, Studio
from braindecode_clip.report.surfaces import structure_figure
from braindecode_clip.spaces import join_spaces

#: Figures narrower than this (inches) shrink on a phone; others scroll.
_SMALL_IN = 5.0
MAP_STYLES = {
    "reliability": MapStyle("split-half\ncorrelation r", "viridis"),
    "noise_ceiling": MapStyle("explainable\nvariance (%)", "magma"),
    "pattern": MapStyle("decoded signal\n(sd of responses)", "inferno"),
}
MAP_TITLES = {
    "reliability": "Reliability of the voxels",
    "noise_ceiling": "Noise ceiling",
    "pattern": "Strength of the decoder's activation pattern",
}
MAP_CAPTIONS = {
    "reliability": "Correlation between the halves of repeated trials, from training data alone.",
    "noise_ceiling": "Share of a voxel's variance that a model of the stimulus could explain, "
    "from all repeats.",
    "pattern": "Standard deviation of a voxel's scaled response that goes with the predictions: "
    "where the decoded signal shows up, which the decoder's weights alone do not say.",
}


def brain_blocks(inputs: Inputs, order: Order, studio: Studio) -> list[Block]:
    """One block for each kind of map; the voxels of a subject's regions share a figure.

    Where the brain is a slice or two, all maps fit into one block, side by side.
    """
    blocks = []
    for kind in MAP_STYLES:
        merged = _merge_maps([item for item in inputs.maps if item.kind == kind], order)
        drawings = tuple(_draw(item, rois, inputs, studio) for item, rois in merged)
        if drawings:
            blocks.append(Block(MAP_TITLES[kind], drawings, folded=False, intro=MAP_CAPTIONS[kind]))
    if len(blocks) > 1 and all(item.small for block in blocks for item in block.drawings):
        together = tuple(
            replace(item, caption=f"{block.title}. {item.caption} {block.intro}")
            for block in blocks
            for item in block.drawings
        )
        return [Block("Voxel maps", together, folded=False)]
    return blocks


def _draw(item: VoxelMap, rois: list[str], inputs: Inputs, studio: Studio) -> Drawing:
    style = MAP_STYLES[item.kind]
    finite = item.values[np.isfinite(item.values)]
    where = ""
    if item.space is None:
        figure = brain_figure(
            item.values,
            item.affine,
            style,
            background=inputs.backgrounds.get(item.subject),
            n_slices=inputs.study.report.slices,
        )
    else:
        figure = structure_figure(item.values, item.space, style)
        where = (
            " Median, middle half and 5 to 95 % of each structure; the map itself is a "
            ".dscalar.nii file in the folder of `interpret`, for Connectome Workbench."
        )
    what = f"subject {item.subject}, region{'s' if len(rois) > 1 else ''} {', '.join(rois)}"
    what += f", decoder {item.labels['decoder']}" if "decoder" in item.labels else ""
    columns = "voxels" if item.space is None else "vertices and voxels"
    numbers = (
        f"{count(len(finite))} {columns}, median {quantity(np.median(finite))}, largest "
        f"{quantity(finite.max())}"
    )
    unit = style.label.replace("\n", " ")
    return studio.draw(
        figure,
        alt=f"{MAP_TITLES[item.kind]}, {what}: {numbers} ({unit})",
        caption=f"{what[:1].upper()}{what[1:]}: {numbers}.{where}",
        small=item.space is None and figure.get_figwidth() < _SMALL_IN,
    )


def _merge_maps(maps: list[VoxelMap], order: Order) -> list[tuple[VoxelMap, list[str]]]:
    """Join the regions of a subject; where they overlap, the first of the config stands.

    Where a map belongs to a decoder, split or encoder, the first of the config is shown.
    """
    found = []
    for subject in order.names["subject"]:
        own = [item for item in maps if item.subject == subject]
        chosen: dict[str, VoxelMap] = {}
        for roi in order.names["roi"]:
            candidates = [item for item in own if item.roi == roi]
            candidates.sort(
                key=lambda item: [
                    order.names[key].index(item.labels[key])
                    for key in ("split", "encoder", "decoder")
                    if item.labels.get(key) in order.names[key]
                ]
            )
            finite = [item for item in candidates if np.isfinite(item.values).any()]
            if finite:
                chosen[roi] = finite[0]
        if not chosen:
            continue
        found.append(_join(chosen))
    return found


def _join(chosen: dict[str, VoxelMap]) -> tuple[VoxelMap, list[str]]:
    """Lay the maps of several regions over each other, the first on top."""
    first = next(iter(chosen.values()))
    if first.space is not None:
        return _join_grayordinates(chosen)
    together = {
        roi: item for roi, item in chosen.items() if item.values.shape == first.values.shape
    }
    values = np.full_like(first.values, np.nan)
    for item in together.values():
        values = np.where(np.isfinite(values), values, item.values)
    return replace(first, values=values), list(together)


def _join_grayordinates(chosen: dict[str, VoxelMap]) -> tuple[VoxelMap, list[str]]:
    first, *others = chosen.values()
    values, space = first.values, first.space
    together = [first.roi]
    for item in others:
        if item.space is None or not item.space.fits(space):
            continue
        place = item.space.locate(space)
        known = np.flatnonzero(place >= 0)
        values = values.copy()
        below = known[~np.isfinite(values[place[known]])]
        values[place[below]] = item.values[below]
        new = np.flatnonzero(place < 0)
        space = join_spaces([space, item.space.subset(new)])
        values = np.concatenate([values, item.values[new]])
        together.append(item.roi)
    return replace(first, values=values, space=space), together
