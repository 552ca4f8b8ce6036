"""Options of ``decode``: banded ridge, kernels, and ridge through a bottleneck."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from braindecode_clip.config.decode import (
    CALIBRATION,
    NAME,
    AlphaGrid,
    CalibratedSection,
    Calibration,
)

_CV = (
    "Folds of the training part that choose all settings. Default 5; fewer where there are fewer "
    "groups."
)
_ALPHAS = "Penalties to choose from, on the scale of the eigenvalues of XᵀX."
_SIZES = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]


class BandedConfig(CalibratedSection):
    """Ridge regression with a weight for every band of voxels, chosen for every dimension."""

    name: str = Field(default="banded", pattern=NAME, description="Label in file names.")
    kind: Literal["banded"] = Field(default="banded", description="Kind of decoder.")
    bands: list[str] = Field(
        min_length=1,
        description="ROIs of the study that are the bands; a voxel in several belongs to the "
        "first, and the voxels in none are a band of their own.",
    )
    alphas: AlphaGrid = Field(default_factory=AlphaGrid, description=_ALPHAS)
    n_weights: int = Field(
        default=50,
        ge=1,
        description="Weightings of the bands that are tried: equal weights, each band alone, then "
        "random ones. Default 50.",
    )
    cv: int = Field(default=5, ge=2, description=_CV)
    calibration: Calibration = Field(default="spread", description=CALIBRATION)

    @field_validator("bands")
    @classmethod
    def _bands_differ(cls, bands: list[str]) -> list[str]:
        if len(set(bands)) < len(bands):
            raise ValueError(f"names of 'bands' must differ, got {bands}")
        return bands


class KernelRidgeConfig(CalibratedSection):
    """Ridge regression in the space of a cosine or Gaussian kernel."""

    name: str = Field(default="kernel-ridge", pattern=NAME, description="Label in file names.")
    kind: Literal["kernel_ridge"] = Field(default="kernel_ridge", description="Kind of decoder.")
    kernel: Literal["cosine", "rbf"] = Field(
        default="rbf", description="Cosine, or Gaussian (rbf). Default rbf."
    )
    scales: list[PositiveFloat] = Field(
        default=[0.03, 0.1, 0.3, 1.0],
        min_length=1,
        description="Of the Gaussian kernel: gammas to choose from, as multiples of 1 / the median "
        "squared distance between training rows. Default 0.03, 0.1, 0.3, 1.",
    )
    alphas: AlphaGrid = Field(
        default=AlphaGrid(low=1e-4, high=1e3, count=20),
        description="Penalties to choose from; the kernel's eigenvalues add up to at most the "
        "number of training rows.",
    )
    cv: int = Field(default=5, ge=2, description=_CV)
    calibration: Calibration = Field(default="spread", description=CALIBRATION)


class PCARidgeConfig(CalibratedSection):
    """Ridge regression on principal components of the voxels."""

    name: str = Field(default="pca-ridge", pattern=NAME, description="Label in file names.")
    kind: Literal["pca_ridge"] = Field(default="pca_ridge", description="Kind of decoder.")
    n_components: list[PositiveInt] = Field(
        default=_SIZES,
        min_length=1,
        description="Numbers of components to choose from; more than there are means all.",
    )
    alphas: AlphaGrid = Field(default_factory=AlphaGrid, description=_ALPHAS)
    cv: int = Field(default=5, ge=2, description=_CV)
    calibration: Calibration = Field(default="spread", description=CALIBRATION)


class ReducedRankConfig(CalibratedSection):
    """Ridge regression whose map from voxels to embedding has a small rank."""

    name: str = Field(default="reduced-rank", pattern=NAME, description="Label in file names.")
    kind: Literal["reduced_rank"] = Field(default="reduced_rank", description="Kind of decoder.")
    ranks: list[PositiveInt] = Field(
        default=_SIZES,
        min_length=1,
        description="Ranks to choose from; more than the data allow means no limit.",
    )
    alphas: AlphaGrid = Field(default_factory=AlphaGrid, description=_ALPHAS)
    cv: int = Field(default=5, ge=2, description=_CV)
    calibration: Calibration = Field(default="spread", description=CALIBRATION)
