"""The colours of objects and grounds, whatever style they are drawn in."""

from __future__ import annotations

#: sRGB values of the object colours, 0 to 255.
COLOUR_RGB: dict[str, tuple[int, int, int]] = {
    "red": (216, 38, 44),
    "orange": (244, 132, 28),
    "yellow": (250, 214, 40),
    "green": (46, 160, 67),
    "turquoise": (38, 200, 196),
    "blue": (38, 92, 224),
    "purple": (126, 52, 178),
    "pink": (244, 130, 186),
}

#: sRGB values of the grounds: grey or dull, so that no object melts into them.
BACKGROUND_RGB: dict[str, tuple[int, int, int]] = {
    "white": (246, 246, 244),
    "grey": (146, 148, 150),
    "black": (24, 24, 26),
    "beige": (222, 204, 168),
    "navy": (28, 40, 84),
}
