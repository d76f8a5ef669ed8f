"""Procedural chest phantoms: two-film studies whose labels are known by construction.

A phantom is a handful of convex solids in a frame of centimetres: x to the patient's left,
y to the front, z up, the origin in the middle of the chest. A parallel beam obeys Beer-Lambert,
    I = I0 exp(-integral of mu ds),
and every ray meets a convex solid in one segment, so that the integral is a sum of segment
lengths times attenuation differences: closed form, no voxels. The frontal film integrates
along y and shows (x, z); the lateral one integrates along x and shows (y, z).

Each film alone says nothing about `tube_misplaced`: it is true exactly when the tube's tip lies
left and in front, or right and behind; side shows on the frontal film only, depth on the lateral.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.floating]
Span = tuple[Floats, Floats]
"""Where rays enter and leave a solid (cm along the beam); equal where they miss it."""
Point = tuple[float, float, float]

VIEWS = ("frontal", "lateral")
ALIASES = {"frontal": "PA", "lateral": "LL"}
"""The dirty names that the table is written with."""
LABELS = (
    "enlarged_heart",
    "apical_nodule",
    "retrocardiac_nodule",
    "tube_side",
    "tube_depth",
    "tube_misplaced",
)
COLUMNS = ("study", "patient", "view", "path", *LABELS)

FILM_CM = 30.0
SOFT, LUNG, BONE, METAL = 0.20, 0.055, 0.45, 1.1
"""Linear attenuation, 1/cm, at about 70 keV (lung and metal as they appear through their mesh)."""
ENLARGED_CM2 = 112.0
"""A heart is enlarged when its transverse diameter times its depth exceeds this."""
PHOTONS = {"frontal": 60_000.0, "lateral": 150_000.0}
"""Photons per pixel before the body; the lateral path is longer and is given more."""
VEIL = 0.35
"""Scatter, as a share of the mean light behind the body: dense regions lose contrast to it."""
AIR = 0.3
"""A ray that keeps more than this share of its photons passed beside the body."""
MISSING_VIEW, UNKNOWN_LABEL, RETURNING = 0.05, 0.05, 0.20


@dataclass(frozen=True)
class Ellipsoid:
    """Axis-aligned; an infinite third half-axis makes it an upright elliptic cylinder. In cm."""

    centre: Point
    half: Point


@dataclass(frozen=True)
class Build:
    """What stays with a patient from study to study (cm; `density` scales all attenuation)."""

    body: Ellipsoid
    lungs: tuple[Ellipsoid, Ellipsoid]
    domes: tuple[Ellipsoid, Ellipsoid]
    heart: Ellipsoid
    spine: Ellipsoid
    density: float
    rib_tilt: float
    vessels: NDArray[np.float64]
    """(vessels, 2, 3) ends of straight pulmonary vessels, cm."""
    shift: Point = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Phantom:
    """One study's body: a build, the nodules it has, and a tube with its tip in the chest.

    tube_left / tube_front give the tip's side and depth, `tube_reach` how far (dx, dy, dz)
    it lies from the end of the windpipe, cm, as positive numbers.
    """

    build: Build
    apical_nodule: Ellipsoid | None
    retrocardiac_nodule: Ellipsoid | None
    tube_left: bool
    tube_front: bool
    tube_reach: Point


def draw_build(rng: np.random.Generator) -> Build:
    """A patient at random; the heart's transverse diameter and its depth are independent."""
    size, depth = rng.normal(1.0, 0.04), rng.normal(1.0, 0.05)
    cage = np.array([size, depth, rng.normal(1.0, 0.05)])
    heart_half = (rng.normal(6.1, 0.85), rng.normal(4.6, 0.65), rng.normal(5.4, 0.3))
    lungs, domes = [], []
    for side in (-1, 1):
        lungs.append(_ellipsoid((side * 6.7, 0.0, 0.5), (5.4, 7.2, 13.0), cage))
        top = -14.3 + 0.7 * (side < 0) + rng.normal(0, 0.5)
        domes.append(_ellipsoid((side * 6.4, -0.5, top), (6.8, 9.0, 7.5), cage))
    ends = np.concatenate([_draw_vessels(side, rng) for side in (-1, 1)]) * cage
    return Build(
        body=_ellipsoid((0, 0, 0), (rng.normal(16.0, 0.5), 10.8, np.inf), cage),
        lungs=(lungs[0], lungs[1]),
        domes=(domes[0], domes[1]),
        heart=Ellipsoid((rng.normal(1.6, 0.4), rng.normal(2.2, 0.3), -3.8), heart_half),
        spine=_ellipsoid((0, -7.6, 0), (1.7, 1.6, np.inf), cage),
        density=rng.normal(1.0, 0.04),
        rib_tilt=rng.normal(0.45, 0.04),
        vessels=ends,
    )


def draw_phantom(build: Build, rng: np.random.Generator) -> Phantom:
    """One visit: the patient stands and breathes a little differently, the findings are new."""
    breath = rng.normal(1.0, 0.015)
    width, depth, height = build.heart.half
    heart = replace(build.heart, half=(width * breath, depth * breath, height))
    shift = (rng.normal(0, 0.5), rng.normal(0, 0.5), rng.normal(0, 0.6))
    apical, retrocardiac = _draw_apical(build, rng), _draw_retrocardiac(heart, rng)
    has_apical, has_retrocardiac, left, front = rng.random(4) < (0.45, 0.40, 0.5, 0.5)
    return Phantom(
        build=replace(build, heart=heart, shift=shift),
        apical_nodule=apical if has_apical else None,
        retrocardiac_nodule=retrocardiac if has_retrocardiac else None,
        tube_left=bool(left),
        tube_front=bool(front),
        tube_reach=(rng.uniform(1.8, 3.4), rng.uniform(1.8, 3.4), rng.uniform(3.5, 5.5)),
    )


def labels_of(phantom: Phantom) -> dict[str, int]:
    """The six labels, 0 or 1, as they follow from the body."""
    width, depth, _ = phantom.build.heart.half
    return {
        "enlarged_heart": int(4 * width * depth > ENLARGED_CM2),
        "apical_nodule": int(phantom.apical_nodule is not None),
        "retrocardiac_nodule": int(phantom.retrocardiac_nodule is not None),
        "tube_side": int(phantom.tube_left),
        "tube_depth": int(phantom.tube_front),
        "tube_misplaced": int(phantom.tube_left == phantom.tube_front),
    }


def attenuation(phantom: Phantom, view: str, size: int = 64) -> Floats:
    """(size, size) integral of mu along the beam, no unit; row 0 is the top of the film.

    Columns run to the patient's left (frontal) or, from the front, to the back (lateral).
    """
    build, beam = phantom.build, 1 if view == "frontal" else 0
    across = 1 - beam
    step = FILM_CM / size
    ruler = (np.arange(size) + 0.5) * step - FILM_CM / 2
    u = (ruler if view == "frontal" else -ruler)[None, :] - build.shift[across]
    z = -ruler[:, None] - build.shift[2]

    def crossing(solid: Ellipsoid) -> Span:
        return _crossing(solid, beam, u, z)

    heart = crossing(build.heart)
    air = sum(
        _aerated(crossing(lung), heart, crossing(dome))
        for lung, dome in zip(build.lungs, build.domes, strict=True)
    )
    windpipe = _length(crossing(Ellipsoid((0, 0.5, 13.5), (0.9, 0.9, 9.5))))
    nodules = [n for n in (phantom.apical_nodule, phantom.retrocardiac_nodule) if n is not None]
    solid = sum((_length(crossing(nodule)) for nodule in nodules), start=0.0)
    bones = _length(crossing(build.spine)) * (0.45 + 0.55 * _share(z, step, 2.7, 2.0))
    bones = bones + _length(crossing(Ellipsoid((0, 9.0, 1.0), (1.6, 0.5, 8.5))))
    bones = bones + _ribs(build, beam, u, z, step) + _rods(_clavicles(build), beam, u, z, 0.55)
    vessels = _rods(build.vessels, beam, u, z, 0.33)
    integral = SOFT * (_length(crossing(build.body)) - windpipe) + (BONE - SOFT) * bones
    integral = integral + (SOFT - LUNG) * (solid + vessels - air)
    return build.density * integral + METAL * _rods(_tube(phantom), beam, u, z, 0.4)


def render(
    phantom: Phantom, size: int = 64, rng: np.random.Generator | None = None
) -> dict[str, NDArray[np.uint8]]:
    """{view: (size, size) uint8 film}, dense tissue bright; without `rng`, free of noise."""
    streams = rng.spawn(len(VIEWS)) if rng is not None else (None, None)
    return {
        view: _expose(np.exp(-attenuation(phantom, view, size)), PHOTONS[view], stream)
        for view, stream in zip(VIEWS, streams, strict=True)
    }


def write_phantoms(folder: Path, studies: int = 1200, seed: int = 0, size: int = 64) -> Path:
    """Writes folder/images/*.png and folder/studies.csv, one row per film; gives the table's path.

    About 5% of the studies lack either film and 5% of the labels are blank. Study i is the same
    however many are asked for, byte for byte.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    table = folder / "studies.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for number, (patient, phantom, rng) in enumerate(islice(_visits(seed), studies)):
            films = render(phantom, size, rng)
            unknown = rng.random(len(LABELS)) < UNKNOWN_LABEL
            known = labels_of(phantom).values()
            cells = ["" if blank else value for blank, value in zip(unknown, known, strict=True)]
            for view in _kept_views(rng):
                path = f"images/S{number:05d}_{ALIASES[view]}.png"
                Image.fromarray(films[view]).save(folder / path)
                writer.writerow([f"S{number:05d}", f"{patient:04d}", ALIASES[view], path, *cells])
    return table


def _visits(seed: int) -> Iterator[tuple[int, Phantom, np.random.Generator]]:
    """(patient, phantom, that study's generator) without end; each patient has an own stream."""
    for patient in count():
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(patient,)))
        build = draw_build(rng)
        visits = int(rng.integers(2, 4)) if rng.random() < RETURNING else 1
        for stream in rng.spawn(visits):
            yield patient, draw_phantom(build, stream), stream


def _kept_views(rng: np.random.Generator) -> tuple[str, ...]:
    fate = rng.random()
    if fate < MISSING_VIEW:
        return VIEWS[1:]
    return VIEWS[:1] if fate < 2 * MISSING_VIEW else VIEWS


def _expose(primary: Floats, photons: float, rng: np.random.Generator | None) -> NDArray[np.uint8]:
    """Transmitted share of the beam -> film: scatter, blur, photon counting, -log, window."""
    gain, blur = (1.0, 0.15) if rng is None else (rng.normal(1.0, 0.03), rng.uniform(0.08, 0.2))
    behind = primary < AIR
    light = primary + VEIL * primary[behind].mean()
    for axis in (0, 1):
        before, after = np.roll(light, 1, axis), np.roll(light, -1, axis)
        light = (1 - 2 * blur) * light + blur * (before + after)
    if rng is not None:
        light = np.maximum(rng.poisson(light * photons), 1) / photons
    density = -np.log(light)
    low, high = np.percentile(density[behind], (1.0, 99.0))
    grey = 0.08 + 0.86 * gain * (density - low) / (high - low)
    return np.clip(255 * grey, 0, 255).astype(np.uint8)


def _ellipsoid(centre: Point, half: Point, scale: Floats) -> Ellipsoid:
    cx, cy, cz = (float(v) for v in np.array(centre) * scale)
    hx, hy, hz = (float(v) for v in np.array(half) * scale)
    return Ellipsoid((cx, cy, cz), (hx, hy, hz))


def _draw_vessels(side: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """(7, 2, 3) vessels that fan out from one hilum, cm."""
    hilum = np.array([side * 2.8, 0.0, 0.5])
    angle = rng.uniform(-1.3, 1.3, 7)
    reach = np.stack([side * 6.0 * np.cos(angle), rng.normal(0, 2.5, 7), 8.0 * np.sin(angle)], 1)
    tips = hilum + reach * rng.uniform(0.6, 1.0, (7, 1))
    return np.stack([np.broadcast_to(hilum, tips.shape), tips], 1)


def _draw_apical(build: Build, rng: np.random.Generator) -> Ellipsoid:
    lung = build.lungs[int(rng.integers(2))]
    x, y, z = lung.centre
    centre = (x + rng.normal(0, 0.6), y + rng.normal(0, 0.6), z + rng.uniform(7.0, 9.0))
    # A flat nodule seen on edge is small and dense, face on it is wide and faint: what one film
    # hides the other shows.
    flat = rng.choice((-1, 1)) * rng.uniform(0.35, 0.8) - 0.05
    mean = rng.uniform(1.15, 1.8)
    return Ellipsoid(centre, (mean * np.exp(flat), mean * np.exp(-flat), 1.05 * mean))


def _draw_retrocardiac(heart: Ellipsoid, rng: np.random.Generator) -> Ellipsoid:
    x, y, z = heart.centre
    back = y - heart.half[1] - 1.2
    centre = (x + rng.normal(0, 0.8), back + rng.normal(0, 0.3), z + rng.normal(0, 1.3))
    return Ellipsoid(centre, (rng.uniform(2.2, 2.8), 0.8, rng.uniform(1.2, 1.6)))


def _tube(phantom: Phantom) -> NDArray[np.float64]:
    """(2, 2, 3): down the windpipe, then a leg to the tip, cm."""
    dx, dy, dz = phantom.tube_reach
    end = np.array([0.0, 0.5, 4.5])
    leg = np.array([dx if phantom.tube_left else -dx, dy if phantom.tube_front else -dy, -dz])
    return np.array([[(0.0, 0.5, 25.0), end], [end, end + leg]])


def _clavicles(build: Build) -> NDArray[np.float64]:
    width = build.body.half[0]
    return np.array([[(s * 1.6, 8.0, 9.5), (s * 0.85 * width, 2.0, 12.5)] for s in (-1, 1)])


def _crossing(solid: Ellipsoid, beam: int, u: Floats, z: Floats) -> Span:
    across = 1 - beam
    inside = 1 - ((u - solid.centre[across]) / solid.half[across]) ** 2
    inside = inside - ((z - solid.centre[2]) / solid.half[2]) ** 2
    reach = solid.half[beam] * np.sqrt(np.maximum(inside, 0))
    return solid.centre[beam] - reach, solid.centre[beam] + reach


def _length(*spans: Span) -> Floats:
    """How long (cm) a ray stays inside all of the solids at once."""
    enter, leave = spans[0]
    for low, high in spans[1:]:
        enter, leave = np.maximum(enter, low), np.minimum(leave, high)
    return np.maximum(leave - enter, 0)


def _aerated(lung: Span, heart: Span, dome: Span) -> Floats:
    """Length in the lung outside of the heart and the diaphragm: inclusion and exclusion."""
    return _length(lung) - _length(lung, heart) - _length(lung, dome) + _length(lung, heart, dome)


def _share(z: Floats, step: float, period: float, thick: float) -> Floats:
    """Share of each pixel's height within slabs `thick` cm high, one every `period` cm."""
    away = np.abs((z + period / 2) % period - period / 2)
    return np.clip((thick / 2 - away) / step + 0.5, 0, 1)


def _ribs(build: Build, beam: int, u: Floats, z: Floats, step: float) -> Floats:
    """Length in bone (cm): a thin elliptic shell around the lungs cut into tilted slabs."""
    wide, deep, _ = build.lungs[1].half
    enter, leave = _crossing(Ellipsoid((0, 0, 0), (2.35 * wide, 1.21 * deep, np.inf)), beam, u, z)
    inner = _crossing(Ellipsoid((0, 0, 0), (2.25 * wide, 1.13 * deep, np.inf)), beam, u, z)
    wall = (leave - enter - _length(inner)) / 2
    # A frontal ray meets the cage behind and in front, at the two ends of its segment; along a
    # lateral ray both walls lie equally far forward.
    depths = (enter, leave) if beam == 1 else (u, u)
    return sum((wall * _share(z + build.rib_tilt * y, step, 2.9, 1.0) for y in depths), start=0.0)


def _rods(ends: NDArray[np.float64], beam: int, u: Floats, z: Floats, radius: float) -> Floats:
    """Length (cm) in thin straight rods; ends (rods, 2, 3)."""
    across = 1 - beam
    start, stop = ends[:, 0], ends[:, 1]
    du, dz = (stop - start)[:, across, None, None], (stop - start)[:, 2, None, None]
    pu, pz = u - start[:, across, None, None], z - start[:, 2, None, None]
    flat = du**2 + dz**2
    along = np.clip((pu * du + pz * dz) / flat, 0, 1)
    away = (pu - along * du) ** 2 + (pz - along * dz) ** 2
    slant = np.sqrt(((stop - start) ** 2).sum(-1)[:, None, None] / flat)
    return (2 * slant * np.sqrt(np.maximum(radius**2 - away, 0))).sum(0)
