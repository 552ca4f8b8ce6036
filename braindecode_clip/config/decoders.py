"""Every kind of decoder with its section: the one place where a kind is registered."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from braindecode_clip.config.decode import (
    ContrastiveConfig,
    EnsembleConfig,
    MLPConfig,
    RidgeConfig,
    SharedConfig,
)
from braindecode_clip.config.decode_linear import (
    BandedConfig,
    KernelRidgeConfig,
    PCARidgeConfig,
    ReducedRankConfig,
)

#: Decoders that are fitted on one subject by themselves.
SingleConfig = (
    RidgeConfig
    | ContrastiveConfig
    | MLPConfig
    | BandedConfig
    | KernelRidgeConfig
    | PCARidgeConfig
    | ReducedRankConfig
)
AnyDecoderConfig = SingleConfig | EnsembleConfig | SharedConfig
DecoderConfig = Annotated[AnyDecoderConfig, Field(discriminator="kind")]
#: Kind to its section, in the order of the help.
SECTIONS = {
    "ridge": RidgeConfig,
    "contrastive": ContrastiveConfig,
    "mlp": MLPConfig,
    "banded": BandedConfig,
    "kernel_ridge": KernelRidgeConfig,
    "pca_ridge": PCARidgeConfig,
    "reduced_rank": ReducedRankConfig,
    "ensemble": EnsembleConfig,
    "shared": SharedConfig,
}
