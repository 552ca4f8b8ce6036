"""Noiseless responses of voxels to pictures: receptive fields and attribute tuning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from braindecode_clip.simulate.features import (
    GROUND_FEATURES,
    MAP_PX,
    OBJECT_FEATURES,
    PictureFeatures,
)
from braindecode_clip.simulate.scenes import COLOURS, SHAPES, TEXTURES

#: Compressive exponents: of contrast energy (Kay et al. 2013, J Neurophysiol 110:481-494)
#: and of the summed drive of higher voxels.
EARLY_EXPONENT = 0.5
HIGHER_EXPONENT = 0.7

# Mean tuning weight of each kind of feature, by region.
_WEIGHTS: dict[str, dict[str, float]] = {
    "colour": {"shape": 0.3, "texture": 0.5, "colour": 2.0, "extent": 0.5, "ground": 0.4},
    "shape": {"shape": 2.0, "texture": 1.2, "colour": 0.3, "extent": 0.6, "ground": 0.2},
    "scene": {"shape": 0.3, "texture": 0.4, "colour": 0.3, "extent": 0.5, "ground": 1.6},
}


@dataclass(frozen=True)
class ReceptiveFields:
    """Where voxels look, as Gaussians in the picture.

    Attributes
    ----------
    x, y : ndarray, (n_voxels,)
        Centre, 0 to 1, ``y`` downwards.
    size : ndarray, (n_voxels,)
        Standard deviation as a share of the picture's side.
    """

    x: np.ndarray
    y: np.ndarray
    size: np.ndarray


def early_receptive_fields(points_mm: np.ndarray, rng: np.random.Generator) -> ReceptiveFields:
    """Lay a retinotopic map out on the voxels of the early region.

    The left hemisphere sees the right half of the picture, the upper bank of the region the
    lower half; fields move outwards and grow from the back pole forwards.

    Parameters
    ----------
    points_mm : ndarray, (n_voxels, 3)
        Brain-centred coordinates: right, front, up.
    rng : numpy.random.Generator
        Scatter around the map.

    Returns
    -------
    ReceptiveFields
    """
    n = len(points_mm)
    forward, upward = _rank(points_mm[:, 1]), _rank(points_mm[:, 2])
    eccentricity = 0.05 + 0.5 * forward
    angle = np.deg2rad(85.0) * (2 * upward - 1)
    side = np.where(points_mm[:, 0] < 0, 1.0, -1.0)
    x = 0.5 + side * eccentricity * np.cos(angle) + rng.normal(0, 0.03, n)
    y = 0.5 + eccentricity * np.sin(angle) + rng.normal(0, 0.03, n)
    size = (0.035 + 0.12 * eccentricity) * np.exp(rng.normal(0, 0.15, n))
    return ReceptiveFields(np.clip(x, 0.03, 0.97), np.clip(y, 0.03, 0.97), size)


def _rank(values: np.ndarray) -> np.ndarray:
    """Return ranks scaled to 0 .. 1."""
    order = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return order / max(1, len(values) - 1)


def early_responses(
    features: PictureFeatures, fields: ReceptiveFields, rng: np.random.Generator
) -> np.ndarray:
    r"""Respond to the contrast energy in each voxel's receptive field.

    .. math:: r_v = \Big(\sum_c w_{vc} \sum_x \mathrm{RF}_v(x) \, E_c(x)\Big)^{1/2}

    with random non-negative channel weights :math:`w_v` of unit sum and
    :math:`\mathrm{RF}_v` of unit sum.

    Parameters
    ----------
    features : PictureFeatures
    fields : ReceptiveFields
    rng : numpy.random.Generator
        Chooses the channel weights.

    Returns
    -------
    ndarray, (n_pictures, n_voxels), float32
    """
    n_pictures, n_channels = features.energy.shape[:2]
    place = (np.arange(MAP_PX) + 0.5) / MAP_PX
    in_x = np.exp(-((place[None, :] - fields.x[:, None]) ** 2) / (2 * fields.size[:, None] ** 2))
    in_y = np.exp(-((place[None, :] - fields.y[:, None]) ** 2) / (2 * fields.size[:, None] ** 2))
    window = (in_y[:, :, None] * in_x[:, None, :]).reshape(len(fields.x), -1)
    window = (window / window.sum(axis=1, keepdims=True)).astype(np.float32)
    channel = rng.dirichlet(np.full(n_channels, 0.8), size=len(fields.x)).astype(np.float32)
    energy = features.energy.reshape(n_pictures, n_channels, -1)
    drive = np.zeros((n_pictures, len(fields.x)), dtype=np.float32)
    for k in range(n_channels):
        drive += (energy[:, k] @ window.T) * channel[:, k]
    return np.maximum(drive, 0) ** EARLY_EXPONENT


def higher_responses(
    features: PictureFeatures, region: str, n_voxels: int, rng: np.random.Generator
) -> np.ndarray:
    r"""Respond to colour, shape, texture, extent, ground and number of objects.

    .. math:: r_v = \Big(\sum_o g_v(o) \, t_v^\top f_o + u_v^\top s + c_v^\top p\Big)^{0.7}

    :math:`f_o` are the attributes of object o, :math:`g_v(o)` the weight of its place in a
    wide field of the voxel, s the ground and the count, p the colour content of the pixels;
    the tuning t, u, c is random, non-negative and sparse, and its strength depends on the
    region.

    Parameters
    ----------
    features : PictureFeatures
    region : {"colour", "shape", "scene"}
    n_voxels : int
    rng : numpy.random.Generator
        Chooses the tuning and the fields.

    Returns
    -------
    ndarray, (n_pictures, n_voxels), float32
    """
    weight = _WEIGHTS[region]
    scale = np.array([weight[_kind(name)] for name in OBJECT_FEATURES])
    tuning = _sparse(rng, scale, n_voxels)
    ground = _sparse(rng, np.full(len(GROUND_FEATURES), weight["ground"]), n_voxels)
    pixels = _sparse(rng, np.full(len(COLOURS), 3 * weight["colour"]), n_voxels)
    centre = rng.uniform(0.15, 0.85, (2, n_voxels)).astype(np.float32)
    width = rng.uniform(0.35, 0.8, n_voxels).astype(np.float32)
    drive = features.ground @ ground + features.colour @ pixels
    for slot in range(features.objects.shape[1]):
        there = ~np.isnan(features.places[:, slot, 0])
        place = features.places[there, slot]
        apart = ((place[:, :, None] - centre[None]) ** 2).sum(axis=1)
        near = np.exp(-apart / (2 * width**2))
        drive[there] += near * (features.objects[there, slot] @ tuning)
    return (drive**HIGHER_EXPONENT).astype(np.float32)


def _kind(name: str) -> str:
    for kind, names in (("colour", COLOURS), ("texture", TEXTURES), ("shape", SHAPES)):
        if name in names:
            return kind
    return "extent"


def _sparse(rng: np.random.Generator, scale: np.ndarray, n_voxels: int) -> np.ndarray:
    """Draw weights (n_features, n_voxels) with mean ``scale`` and a long tail."""
    drawn = rng.gamma(0.6, 1 / 0.6, size=(len(scale), n_voxels))
    return (scale[:, None] * drawn).astype(np.float32)


def standardise(responses: np.ndarray) -> np.ndarray:
    """Scale every column to mean 0 and variance 1 over pictures; a constant column to 0."""
    centred = responses - responses.mean(axis=0)
    sd = centred.std(axis=0)
    return np.divide(centred, sd, out=np.zeros_like(centred), where=sd > 1e-6)
