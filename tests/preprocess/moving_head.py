"""A head that moves by known parameters: an exact function of space, so nothing is resampled."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

#: Where the head's centre lies in the scanner, and the standard deviation of the noise.
CENTRE_MM = np.array([2.0, -15.0, 9.0])
NOISE = 12.0


def oblique_affine(shape: tuple, voxel_mm: tuple, tilt_deg=(5.0, -3.0, 14.0)) -> np.ndarray:
    """Return a grid around the head's centre, left-handed as many scanners' are."""
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", tilt_deg, degrees=True).as_matrix()
    affine[:3, :3] = turn @ np.diag([-voxel_mm[0], *voxel_mm[1:]])
    affine[:3, 3] = CENTRE_MM - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def brain(points: np.ndarray) -> np.ndarray:
    """Return the signal at points (..., 3) mm around the head's centre: an ellipsoid of waves."""
    rng = np.random.default_rng(11)
    radius = np.sqrt(((points / [56.0, 64.0, 42.0]) ** 2).sum(-1))
    texture = np.zeros(points.shape[:-1])
    for _ in range(16):
        direction = rng.normal(size=3)
        direction *= 2 * np.pi / rng.uniform(22, 45) / np.linalg.norm(direction)
        texture += np.cos(points @ direction + rng.uniform(0, 2 * np.pi)) / 4
    # The edge is as soft as the point-spread of EPI.
    inside = 1 / (1 + np.exp((radius - 1) * 18))
    return 15 + inside * (900 + 160 * texture)


def moved_head(parameters: np.ndarray, shape: tuple, affine: np.ndarray) -> np.ndarray:
    """Return the volume of a head that was shifted and turned.

    Written out from the definition, independently of the package: trans (mm) and rot (radians)
    move the head's points; a voxel shows the point that has come to it.
    """
    x, y, z = parameters[3:]
    turn_x = [[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]
    turn_y = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
    turn_z = [[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]
    turn = np.array(turn_z) @ np.array(turn_y) @ np.array(turn_x)
    ijk = np.moveaxis(np.indices(shape), 0, -1)
    here = ijk @ affine[:3, :3].T + affine[:3, 3]
    # Rows times a rotation are columns times its inverse.
    came_from = (here - CENTRE_MM - parameters[:3]) @ turn
    return brain(came_from)


def moving_run(
    parameters: np.ndarray, shape: tuple, affine: np.ndarray, *, seed: int
) -> np.ndarray:
    """Return (n_volumes, nx, ny, nz) float32 with the noise of EPI, about 1.3 %."""
    rng = np.random.default_rng(seed)
    volumes = [moved_head(row, shape, affine) + rng.normal(0, NOISE, shape) for row in parameters]
    return np.array(volumes, dtype=np.float32)


def known_motion(n_volumes: int, *, seed: int) -> np.ndarray:
    """Return parameters of up to 2 mm and 2 degrees; the first volume lies still."""
    rng = np.random.default_rng(seed)
    parameters = np.zeros((n_volumes, 6))
    parameters[1:, :3] = rng.uniform(-2, 2, (n_volumes - 1, 3))
    parameters[1:, 3:] = np.deg2rad(rng.uniform(-2, 2, (n_volumes - 1, 3)))
    # One that is smaller than any voxel.
    parameters[1] = [0.06, -0.03, 0.05, *np.deg2rad([0.06, -0.04, 0.05])]
    return parameters
