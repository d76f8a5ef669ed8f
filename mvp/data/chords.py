"""Lengths of parallel rays inside convex solids, in closed form.

Every ray meets a convex solid in one segment, so lengths inside several solids at once follow
from where the segments begin and end.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Point = tuple[float, float, float]
Span = tuple[Floats, Floats]
"""Where rays enter and leave a solid (cm along the beam); equal where they miss it."""


@dataclass(frozen=True)
class Ellipsoid:
    """Axis-aligned, in cm; an infinite third half-axis makes it an upright elliptic cylinder."""

    centre: Point
    half: Point


@dataclass(frozen=True, eq=False)
class Rays:
    """A film's rays, one per pixel, along the x axis (`beam` 0) or the y axis (`beam` 1).

    Attributes:
        beam: the axis that they run along.
        u: (1, W) where they stand on the other horizontal axis, cm.
        z: (H, 1) how high they are, cm.
        step: their distance, cm.
    """

    beam: int
    u: Floats
    z: Floats
    step: float

    def span(self, solid: Ellipsoid) -> Span:
        """The segment of each ray in a solid, (H, W)."""
        across = 1 - self.beam
        inside = 1 - ((self.u - solid.centre[across]) / solid.half[across]) ** 2
        inside = inside - ((self.z - solid.centre[2]) / solid.half[2]) ** 2
        reach = solid.half[self.beam] * np.sqrt(np.maximum(inside, 0))
        return solid.centre[self.beam] - reach, solid.centre[self.beam] + reach

    def length(self, solid: Ellipsoid) -> Floats:
        """How long (cm) each ray stays in a solid, (H, W)."""
        return shared_length(self.span(solid))

    def in_rods(self, ends: Floats, radius: float) -> Floats:
        """How long (cm) each ray stays in thin straight rods with ends (rod, 2, 3), (H, W)."""
        start, way = ends[:, 0, :, None, None], (ends[:, 1] - ends[:, 0])[..., None, None]
        across = 1 - self.beam
        du, dz = way[:, across], way[:, 2]
        pu, pz = self.u - start[:, across], self.z - start[:, 2]
        flat = du**2 + dz**2
        along = np.clip((pu * du + pz * dz) / flat, 0, 1)
        away = (pu - along * du) ** 2 + (pz - along * dz) ** 2
        slant = np.sqrt((way**2).sum(1) / flat)
        length: Floats = (2 * slant * np.sqrt(np.maximum(radius**2 - away, 0))).sum(0)
        return length

    def share_in_slabs(self, rise: Floats | float, period: float, thick: float) -> Floats:
        """Share of a pixel's height in level slabs `thick` cm high, one every `period` cm.

        Args:
            rise: how much higher (cm) each ray counts than it is; tilts the slabs.
            period: from slab to slab, cm.
            thick: of each slab, cm.
        """
        away = np.abs((self.z + rise + period / 2) % period - period / 2)
        return np.clip((thick / 2 - away) / self.step + 0.5, 0, 1)


def shared_length(*spans: Span) -> Floats:
    """How long (cm) rays stay inside all of the solids at once."""
    enter, leave = spans[0]
    for low, high in spans[1:]:
        enter, leave = np.maximum(enter, low), np.minimum(leave, high)
    return np.maximum(leave - enter, 0)
