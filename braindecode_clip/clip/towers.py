"""A small image tower for pictures drawn by the project, registered with timm.

open_clip's factory takes any image tower that timm knows, by its name in ``vision_cfg``:
``timm_model_name: braindecode_plain``, ``timm_pool: max``, ``timm_proj: null``. Importing this
module makes the name known; a model directory with that tower is read by
:mod:`braindecode_clip.clip.models`, which does so.
"""

from __future__ import annotations

import torch
from timm.models import register_model
from torch import nn

from braindecode_clip.errors import ConfigError

#: Channels of the three stages, each of which halves the picture's sides at its start.
STAGES = (24, 48, 128)
#: Side of the map of positions, and its channels.
POSITIONS, POSITION_CHANNELS = 8, 16


class PlainConvNet(nn.Module):
    """3 x 3 convolutions with batch norm, and a head that sees both what and where.

    On a CPU and with few pictures this learns outlines in far fewer steps than narrow residual
    or attention towers. The maximum over all places tells what is in the picture wherever it
    is; a map of few channels on an 8 x 8 grid keeps where it is.

    Parameters
    ----------
    num_classes : int
        Size of the output; under open_clip the dimensions of the shared space.
    global_pool : {"max"}
        The pooling over places.
    """

    def __init__(self, num_classes: int, global_pool: str = "max") -> None:
        super().__init__()
        if global_pool != "max":
            raise ConfigError(f"timm_pool: got '{global_pool}', braindecode_plain has 'max' only.")
        layers: list[nn.Module] = []
        n_in = 3
        for n_out in STAGES:
            layers += [*_convolution(n_in, n_out, stride=2), *_convolution(n_out, n_out, stride=1)]
            n_in = n_out
        self.features = nn.Sequential(*layers)
        self.position = nn.Sequential(
            nn.Conv2d(n_in, POSITION_CHANNELS, kernel_size=1),
            nn.AdaptiveAvgPool2d(POSITIONS),
            nn.Flatten(),
        )
        self.head = nn.Linear(n_in + POSITION_CHANNELS * POSITIONS**2, num_classes, bias=False)
        self.num_features = n_in

    def get_classifier(self) -> nn.Module:
        """Return the head, as timm asks for it."""
        return self.head

    def group_matcher(self, coarse: bool = False) -> dict[str, object]:
        """Return which names form a stage, as timm asks for it; the head is in none."""
        n_modules = len(self.features) // len(STAGES)
        stages = [
            (
                r"^features\.(?:"
                + "|".join(str(stage * n_modules + k) for k in range(n_modules))
                + r")\.",
                (stage,),
            )
            for stage in range(len(STAGES))
        ]
        return {"blocks": [*stages, (r"^position", (len(STAGES) - 1,))]}

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map pictures (n, 3, height, width) to vectors (n, num_classes)."""
        maps = self.features(pictures)
        return self.head(torch.cat([maps.amax(dim=(2, 3)), self.position(maps)], dim=1))


def _convolution(n_in: int, n_out: int, *, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(n_in, n_out, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
    ]


@register_model
def braindecode_plain(
    pretrained: bool = False, num_classes: int = 128, global_pool: str = "max", **options: object
) -> PlainConvNet:
    """Build a :class:`PlainConvNet`, as timm asks for it."""
    if pretrained:
        raise ConfigError(
            "braindecode_plain has no pretrained weights. Set timm_model_pretrained to false."
        )
    return PlainConvNet(num_classes, global_pool)
