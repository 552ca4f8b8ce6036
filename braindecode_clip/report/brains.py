"""Voxel maps on axial slices."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib as mpl
import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import ndimage

from braindecode_clip.constants import AFFINE_TOLERANCE_MM
from braindecode_clip.report import theme
from braindecode_clip.report.numbers import decimal

_TILE_PX = 180
_WIDTH_IN = 10.3
_LARGEST_TILE_IN = 2.6
_LOWEST_IN = 1.2
_BAR_IN = 1.25


@dataclass(frozen=True)
class MapStyle:
    """How values become colours.

    Attributes
    ----------
    label : str
        Quantity and unit, written at the colour bar.
    colours : str
        A matplotlib colour map.
    signed : bool
        Symmetric around zero; otherwise from zero up, values below zero as zero.
    """

    label: str
    colours: str
    signed: bool = False


def brain_figure(
    values: np.ndarray,
    affine: np.ndarray,
    style: MapStyle,
    *,
    background: tuple[np.ndarray, np.ndarray] | None = None,
    n_slices: int = 7,
) -> Figure:
    """Draw axial slices of a map over an anatomical or mean image.

    Parameters
    ----------
    values : ndarray (nx, ny, nz)
        NaN outside the map.
    affine : ndarray (4, 4)
        Voxel indices to mm (RAS+).
    style : MapStyle
    background : tuple of (ndarray (bx, by, bz), ndarray (4, 4)), optional
        Image below the map and its affine; resampled when its grid differs.
    n_slices : int
        Slices evenly spaced over those that hold the map.

    Returns
    -------
    Figure
        Left is left; z in mm above every slice; one colour bar.
    """
    values, below, affine = _same_grid(np.asarray(values, dtype=np.float32), affine, background)
    shade, inside = _shading(below, values.shape)
    slices = _choose_slices(values, n_slices)
    rows, columns = _window(np.isfinite(values) | inside)
    low, high = _limits(values, style.signed)
    norm, cmap = Normalize(low, high), mpl.colormaps[style.colours]
    size_mm = np.linalg.norm(affine[:3, :3], axis=0)
    tiles = [
        _tile(*(volume[rows, columns, k] for volume in (values, shade, inside)), cmap, norm)
        for k in slices
    ]
    width_mm, height_mm = size_mm[0] * _length(rows), size_mm[1] * _length(columns)
    heights_mm = [float((affine @ [0, 0, k, 1])[2]) for k in slices]
    with theme.style():
        figure, axis, bar_axis = _layout(len(slices), height_mm / width_mm)
        total_mm = width_mm * len(slices)
        axis.imshow(
            np.concatenate(tiles, axis=1),
            extent=(0, total_mm, 0, height_mm),
            interpolation="none",
            aspect="auto",
        )
        axis.set_axis_off()
        for place, z_mm in enumerate(heights_mm):
            axis.annotate(
                f"z = {decimal(z_mm, digits=0)} mm",
                ((place + 0.5) * width_mm, height_mm),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=10,
            )
        for x, side in ((0.0, "L"), (total_mm, "R")):
            axis.text(x, 0.0, side, fontsize=9, color=theme.MUTED, ha="left" if x == 0 else "right")
        above = values[np.isfinite(values)].max(initial=high) > high
        below_zero = values[np.isfinite(values)].min(initial=low) < low
        bar = figure.colorbar(
            ScalarMappable(norm, cmap),
            cax=bar_axis,
            label=style.label,
            extend={(1, 1): "both", (1, 0): "max", (0, 1): "min"}.get(
                (above, below_zero), "neither"
            ),
            ticks=MaxNLocator(4),
        )
        bar.outline.set_visible(False)
    return figure


def _layout(n_slices: int, height_per_width: float) -> tuple[Figure, Axes, Axes]:
    """Return a figure with one place for the slices and one for the colour bar."""
    tile_in = min(_LARGEST_TILE_IN, (_WIDTH_IN - _BAR_IN) / n_slices)
    slices_in, height_in = tile_in * n_slices, tile_in * height_per_width
    width, height = slices_in + _BAR_IN, max(height_in, _LOWEST_IN) + 0.45
    figure = theme.new_figure(width, height)
    figure.set_layout_engine("none")
    bottom = 0.5 * (height - 0.3 - height_in) / height
    axis = figure.add_axes((0.0, bottom, slices_in / width, height_in / height))
    bar_in = min(height_in, 1.9)
    bar_bottom = bottom + 0.5 * (height_in - bar_in) / height
    bar_axis = figure.add_axes(
        ((slices_in + 0.15) / width, bar_bottom, 0.12 / width, bar_in / height)
    )
    return figure, axis, bar_axis


def _same_grid(
    values: np.ndarray, affine: np.ndarray, background: tuple[np.ndarray, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Turn both images to RAS+ axes, the background sampled on the map's grid."""
    image = nib.as_closest_canonical(nib.Nifti1Image(values, affine))
    turned, turned_affine = np.asarray(image.dataobj), image.affine
    if background is None:
        return turned, None, turned_affine
    data, own_affine = background
    if data.shape == values.shape and np.abs(own_affine - affine).max() <= AFFINE_TOLERANCE_MM:
        image = nib.as_closest_canonical(nib.Nifti1Image(data.astype(np.float32), affine))
        return turned, np.asarray(image.dataobj), turned_affine
    to_own = np.linalg.inv(own_affine) @ turned_affine
    sampled = ndimage.affine_transform(
        np.nan_to_num(data).astype(np.float32),
        to_own[:3, :3],
        offset=to_own[:3, 3],
        output_shape=turned.shape,
        order=1,
    )
    return turned, sampled, turned_affine


def _choose_slices(values: np.ndarray, n_slices: int) -> list[int]:
    n_shown = np.isfinite(values).sum(axis=(0, 1))
    # A slice with a few voxels of the rim says little.
    filled = np.flatnonzero(n_shown >= max(1, 0.1 * n_shown.max()))
    if len(filled) == 0:
        filled = np.arange(values.shape[2])
    positions = np.linspace(0, len(filled) - 1, min(n_slices, len(filled)))
    return [int(filled[round(position)]) for position in positions]


def _window(seen: np.ndarray) -> tuple[slice, slice]:
    """Cut away empty margins, the same for every slice."""
    cuts = []
    for axis in (0, 1):
        others = tuple(other for other in range(3) if other != axis)
        filled = np.flatnonzero(seen.any(axis=others))
        if len(filled) == 0:
            filled = np.array([0, seen.shape[axis] - 1])
        last = min(int(filled[-1]) + 2, seen.shape[axis])
        cuts.append(slice(max(0, int(filled[0]) - 1), last))
    return cuts[0], cuts[1]


def _length(cut: slice) -> int:
    return cut.stop - cut.start


def _shading(below: np.ndarray | None, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return grey levels (0 to 1) and what is head: above a tenth of the bright intensity."""
    if below is None:
        return np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=bool)
    grey = np.nan_to_num(below)
    inside = grey > 0.1 * np.percentile(grey, 98)
    low, high = np.percentile(grey[inside], (1, 99)) if inside.any() else (0.0, 1.0)
    return np.clip((grey - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1), inside


def _limits(values: np.ndarray, signed: bool) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return (-1.0, 1.0) if signed else (0.0, 1.0)
    high = float(np.percentile(np.abs(finite) if signed else finite, 99))
    high = high if high > 0 else 1.0
    return (-high, high) if signed else (0.0, high)


def _tile(
    values: np.ndarray,
    shade: np.ndarray,
    inside: np.ndarray,
    cmap: mpl.colors.Colormap,
    norm: Normalize,
) -> np.ndarray:
    """Return one slice as an image (rows, columns, 4) uint8, front of the head up."""
    zoom = max(1, int(np.ceil(_TILE_PX / max(values.shape))))
    block = np.ones((zoom, zoom), dtype=np.float32)
    smooth, cover = (
        ndimage.zoom(image.astype(np.float32), zoom, order=1, grid_mode=True, mode="nearest")
        for image in (shade, inside)
    )
    pixels = np.empty((*smooth.shape, 4), dtype=np.float32)
    # Grey of middle range, so that it lies quietly on a white and on a dark page.
    pixels[..., :3] = (0.22 + 0.56 * smooth)[..., None]
    pixels[..., 3] = np.clip(4 * cover - 1.5, 0, 1)
    shown = np.kron(np.isfinite(values), block) > 0
    pixels[shown] = cmap(norm(np.kron(np.nan_to_num(values), block)))[shown]
    # Rows of an image run downwards, from the front of the head to the back.
    return (255 * pixels.transpose(1, 0, 2)[::-1]).round().astype(np.uint8)
