"""Named numbers with their unit and source."""

from __future__ import annotations

#: Version of every file this package writes; a reader refuses any other major version.
SCHEMA_VERSION = 2

#: Largest difference (mm) between two affines that still counts as the same grid.
AFFINE_TOLERANCE_MM = 1e-3

#: Default high-pass cut-off (Hz): 1/128 s is SPM's; nilearn's first-level default is 0.01.
HIGH_PASS_HZ = 0.01

#: Radius (mm) of the sphere on which rotations of the head count as displacements. Power et al.
#: (2012), NeuroImage 59:2142-2154.
HEAD_RADIUS_MM = 50.0
