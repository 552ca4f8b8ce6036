"""What the simulated brain sees in a picture: pixels and true attributes, nothing learnt.

No feature knows of any CLIP model, so what a decoder later finds about the CLIP embedding
came through the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from braindecode_clip.errors import DataError
from braindecode_clip.simulate.render import COLOUR_RGB
from braindecode_clip.simulate.scenes import (
    BACKGROUND_COLOURS,
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scene,
)

#: Side of the picture, in pixels, on which energies are computed.
ENERGY_PX = 64
#: Side of the map into which energies are pooled.
MAP_PX = 32
WAVELENGTHS_PX: tuple[float, ...] = (4.0, 8.0)
N_ORIENTATIONS = 4
MAX_OBJECTS = 3

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
_SURROUND = 0.5
_PAD_PX = 16
# A pixel counts for a palette colour by its distance in sRGB, on this scale.
_COLOUR_SCALE = 40.0


@dataclass(frozen=True)
class PictureFeatures:
    """Features of a list of pictures.

    Attributes
    ----------
    energy : ndarray, (n, n_channels, MAP_PX, MAP_PX), float32
        Local contrast energy at each wavelength and orientation; every channel has mean 1
        over pictures and places.
    colour : ndarray, (n, n_colours), float32
        Square root of the share of the picture's area in each object colour, from pixels.
    objects : ndarray, (n, MAX_OBJECTS, n_object_features), float32
        Shape, texture and colour (one-hot) and size of every object; zeros where a scene
        has fewer.
    places : ndarray, (n, MAX_OBJECTS, 2), float32
        Centres, 0 to 1; NaN where a scene has fewer objects.
    ground : ndarray, (n, n_ground_features), float32
        Kind and colour of the ground (one-hot), and number of objects (one-hot).
    """

    energy: np.ndarray
    colour: np.ndarray
    objects: np.ndarray
    places: np.ndarray
    ground: np.ndarray

    def __len__(self) -> int:
        return len(self.colour)


#: Names of the columns of ``PictureFeatures.objects`` and ``.ground``.
OBJECT_FEATURES: tuple[str, ...] = (*SHAPES, *TEXTURES, *COLOURS, "extent")
GROUND_FEATURES: tuple[str, ...] = (
    *(f"kind {name}" for name in BACKGROUNDS),
    *(f"ground {name}" for name in BACKGROUND_COLOURS),
    *(f"count {n}" for n in range(1, MAX_OBJECTS + 1)),
)


def picture_features(images: np.ndarray, scenes: tuple[Scene, ...]) -> PictureFeatures:
    """Compute all features of pictures and of the scenes they show.

    Parameters
    ----------
    images : ndarray, (n, size, size, 3), uint8
        RGB; ``size`` is a multiple of 64.
    scenes : tuple of Scene
        In the same order.

    Returns
    -------
    PictureFeatures

    Raises
    ------
    DataError
        If the numbers differ or the pictures have another shape.
    """
    size = images.shape[1] if images.ndim == 4 else 0
    if images.shape != (len(scenes), size, size, 3) or size == 0 or size % ENERGY_PX:
        raise DataError(
            f"pictures: got an array of shape {images.shape} for {len(scenes)} scenes, expected "
            f"({len(scenes)}, size, size, 3) with a size that is a multiple of {ENERGY_PX}."
        )
    small = _box_reduce(images, size // ENERGY_PX)
    energy = contrast_energy(small @ (_LUMINANCE / 255.0))
    return PictureFeatures(
        energy=(energy / energy.mean(axis=(0, 2, 3), keepdims=True)).astype(np.float32),
        colour=_colour_content(small),
        objects=_object_features(scenes),
        places=_places(scenes),
        ground=_ground_features(scenes),
    )


def _box_reduce(images: np.ndarray, factor: int) -> np.ndarray:
    n, size = images.shape[:2]
    split = images.reshape(n, size // factor, factor, size // factor, factor, 3)
    return split.mean(axis=(2, 4), dtype=np.float32)


def contrast_energy(luminance: np.ndarray) -> np.ndarray:
    r"""Local oriented contrast energy, the classical model of complex cells.

    .. math:: E_c(x) = |(G_c * L)(x)|^2

    with complex Gabor filters :math:`G_c` of ``WAVELENGTHS_PX`` and ``N_ORIENTATIONS``
    (a quadrature pair each) without response to uniform luminance (Adelson & Bergen 1985,
    JOSA A 2:284-299, eq. 4). The picture lies on a mid-grey screen.

    Parameters
    ----------
    luminance : ndarray, (n, ENERGY_PX, ENERGY_PX), float
        0 to 1.

    Returns
    -------
    ndarray, (n, n_channels, MAP_PX, MAP_PX), float32
        Wavelengths vary slowest. About 33 KB a picture.
    """
    side = ENERGY_PX + 2 * _PAD_PX
    pad = ((0, 0), (_PAD_PX, _PAD_PX), (_PAD_PX, _PAD_PX))
    filters = _gabor_spectra(side)
    out = np.empty((len(luminance), len(filters), MAP_PX, MAP_PX), dtype=np.float32)
    inner = slice(_PAD_PX, _PAD_PX + ENERGY_PX)
    fold = ENERGY_PX // MAP_PX
    # In chunks: the complex maps are far larger than what is kept of them.
    for start in range(0, len(luminance), 32):
        part = slice(start, min(start + 32, len(luminance)))
        padded = np.pad(luminance[part], pad, constant_values=_SURROUND).astype(np.float32)
        spectrum = fft.fft2(padded)
        for channel, transfer in enumerate(filters):
            response = fft.ifft2(spectrum * transfer)[:, inner, inner]
            energy = response.real**2 + response.imag**2
            shape = (len(energy), MAP_PX, fold, MAP_PX, fold)
            out[part, channel] = energy.reshape(shape).mean(axis=(2, 4))
    return out


def _gabor_spectra(side: int) -> np.ndarray:
    """Return the transfer functions (n_channels, side, side): one Gaussian each."""
    fx, fy = np.meshgrid(fft.fftfreq(side), fft.fftfreq(side))
    spectra = []
    for wavelength in WAVELENGTHS_PX:
        # A bandwidth of about one octave.
        spread = 0.35 / wavelength
        for k in range(N_ORIENTATIONS):
            angle = np.pi * k / N_ORIENTATIONS
            u, v = np.cos(angle) / wavelength, np.sin(angle) / wavelength
            transfer = np.exp(-((fx - u) ** 2 + (fy - v) ** 2) / (2 * spread**2))
            # Take out what a uniform field would pass.
            transfer[0, 0] = 0.0
            spectra.append(transfer)
    return np.array(spectra, dtype=np.float32)


def _colour_content(small: np.ndarray) -> np.ndarray:
    content = np.empty((len(small), len(COLOURS)), dtype=np.float32)
    for column, name in enumerate(COLOURS):
        distance = ((small - np.array(COLOUR_RGB[name], dtype=np.float32)) ** 2).sum(axis=-1)
        content[:, column] = np.exp(-distance / (2 * _COLOUR_SCALE**2)).mean(axis=(1, 2))
    return np.sqrt(content)


def _object_features(scenes: tuple[Scene, ...]) -> np.ndarray:
    table = np.zeros((len(scenes), MAX_OBJECTS, len(OBJECT_FEATURES)), dtype=np.float32)
    column = {name: i for i, name in enumerate((*SHAPES, *TEXTURES, *COLOURS))}
    # "plain" is a texture of objects and a kind of ground; here only objects speak.
    for row, scene in enumerate(scenes):
        for slot, item in enumerate(scene.objects):
            for name in (item.shape, item.texture, item.colour):
                table[row, slot, column[name]] = 1.0
            table[row, slot, -1] = SIZES.index(item.size) / (len(SIZES) - 1)
    return table


def _places(scenes: tuple[Scene, ...]) -> np.ndarray:
    places = np.full((len(scenes), MAX_OBJECTS, 2), np.nan, dtype=np.float32)
    for row, scene in enumerate(scenes):
        for slot, item in enumerate(scene.objects):
            places[row, slot] = item.x, item.y
    return places


def _ground_features(scenes: tuple[Scene, ...]) -> np.ndarray:
    table = np.zeros((len(scenes), len(GROUND_FEATURES)), dtype=np.float32)
    for row, scene in enumerate(scenes):
        table[row, BACKGROUNDS.index(scene.background)] = 1.0
        first = len(BACKGROUNDS)
        table[row, first + BACKGROUND_COLOURS.index(scene.background_colour)] = 1.0
        table[row, first + len(BACKGROUND_COLOURS) + len(scene.objects) - 1] = 1.0
    return table
