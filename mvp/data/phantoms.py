"""Procedural chest phantoms: two-film studies with labels known by construction.

A phantom is a handful of convex solids in a frame of centimetres: x to the patient's left,
y to the front, z up, the origin in the middle of the chest. A parallel beam obeys Beer-Lambert,
    I = I0 exp(-integral of mu ds),
and every ray meets a convex solid in one segment, so that the integral is a sum of segment
lengths times differences of attenuation: closed form, no voxels. The frontal film integrates
along y and shows (x, z); the lateral one integrates along x and shows (y, z).

Neither film says anything about `tube_misplaced`: it is true exactly when the tube's tip lies
left and in front, or right and behind; the side shows on the frontal film only, the depth on the
lateral only. An apical nodule shows on both films; what lay on the skin or gown for one of
them, a button or an electrode, may pass for it there and is gone on the other.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mvp.data.chords import Ellipsoid, Floats, Point, Rays, Span, shared_length

VIEWS = ("frontal", "lateral")
ALIASES = {"frontal": "PA", "lateral": "LL"}
"""The names that the table is written with, as a hospital would."""
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
"""Linear attenuation, 1/cm, at about 70 keV; METAL for a wire in a tube of plastic."""
ENLARGED_CM2 = 112.0
"""A heart is enlarged when its transverse diameter times its depth exceeds this."""
PHOTONS = {"frontal": 60_000.0, "lateral": 150_000.0}
"""Per pixel, before the body; the lateral path is longer and given more."""
SCATTER = 0.35
"""As a share of the mean light behind the body: dense regions lose contrast to it."""
AIR = 0.3
"""A ray that keeps more than this share of its photons passed beside the body."""
MISSING_VIEW, UNKNOWN_LABEL, RETURNING, MIMIC = 0.05, 0.05, 0.20, 0.9


@dataclass(frozen=True, eq=False)
class Build:
    """A patient's body (cm). `density` scales all attenuation, `shift` is how it stands.

    `vessels` holds the ends of straight pulmonary vessels, (vessel, 2, 3).
    """

    body: Ellipsoid
    lungs: tuple[Ellipsoid, Ellipsoid]
    domes: tuple[Ellipsoid, Ellipsoid]
    heart: Ellipsoid
    spine: Ellipsoid
    vessels: Floats
    rib_tilt: float
    density: float
    shift: Point = (0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Phantom:
    """One study's body: a build, what is wrong with it, and a tube with its tip in the chest.

    `tube_left` and `tube_front` give the tip's side and depth, `tube_reach` how far (dx, dy, dz)
    it lies from the end of the windpipe: cm, positive.
    """

    build: Build
    apical_nodule: Ellipsoid | None
    retrocardiac_nodule: Ellipsoid | None
    mimic: Ellipsoid | None
    mimic_on: str
    tube_left: bool
    tube_front: bool
    tube_reach: Point


def draw_build(rng: np.random.Generator) -> Build:
    """A patient at random; the heart's transverse diameter and its depth are independent."""
    scale = rng.normal(1.0, (0.04, 0.05, 0.05))
    left = _ellipsoid((6.7, 0.0, 0.5), (5.4, 7.2, 13.0), scale)
    tops = rng.normal((-13.6, -14.3), 0.5)
    right_dome, left_dome = (
        _ellipsoid((side * 6.4, -0.5, top), (6.8, 9.0, 7.5), scale)
        for side, top in zip((-1, 1), tops, strict=True)
    )
    heart = rng.normal((1.6, 2.2, 6.1, 4.6, 5.4), (0.4, 0.3, 0.85, 0.65, 0.3))
    return Build(
        body=_ellipsoid((0, 0, 0), (rng.normal(16.0, 0.5), 10.8, np.inf), scale),
        lungs=(replace(left, centre=(-left.centre[0], *left.centre[1:])), left),
        domes=(right_dome, left_dome),
        heart=_ellipsoid((heart[0], heart[1], -3.8), heart[2:], np.ones(3)),
        spine=_ellipsoid((0, -7.6, 0), (1.7, 1.6, np.inf), scale),
        vessels=np.concatenate([_draw_vessels(side, rng) for side in (-1, 1)]) * scale,
        rib_tilt=rng.normal(0.45, 0.04),
        density=rng.normal(1.0, 0.04),
    )


def draw_phantom(build: Build, rng: np.random.Generator) -> Phantom:
    """One visit: a little differently placed, the heart a little differently full, findings new."""
    (x, y, z), beat = build.heart.half, rng.normal(1.0, 0.015)
    heart = replace(build.heart, half=(x * beat, y * beat, z))
    dx, dy, dz = rng.normal(0, (0.5, 0.5, 0.6))
    apical, retrocardiac = _draw_apical(build, rng), _draw_retrocardiac(heart, rng)
    has_apical, has_retrocardiac, left, front = rng.random(4) < (0.45, 0.40, 0.5, 0.5)
    return Phantom(
        build=replace(build, heart=heart, shift=(dx, dy, dz)),
        apical_nodule=apical if has_apical else None,
        retrocardiac_nodule=retrocardiac if has_retrocardiac else None,
        mimic=_draw_apical(build, rng) if rng.random() < MIMIC else None,
        mimic_on=VIEWS[int(rng.integers(2))],
        tube_left=bool(left),
        tube_front=bool(front),
        tube_reach=(rng.uniform(1.8, 3.4), rng.uniform(1.8, 3.4), rng.uniform(3.5, 5.5)),
    )


def visits(seed: int) -> Iterator[tuple[int, Phantom, np.random.Generator]]:
    """(patient, phantom, the study's generator) without end; each patient has its own stream."""
    for patient in count():
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(patient,)))
        build = draw_build(rng)
        number = int(rng.integers(2, 4)) if rng.random() < RETURNING else 1
        for stream in rng.spawn(number):
            yield patient, draw_phantom(build, stream), stream


def labels_of(phantom: Phantom) -> dict[str, int]:
    """The six labels, 0 or 1, as they follow from the body."""
    width, depth, _ = phantom.build.heart.half
    truths = (
        4 * width * depth > ENLARGED_CM2,
        phantom.apical_nodule is not None,
        phantom.retrocardiac_nodule is not None,
        phantom.tube_left,
        phantom.tube_front,
        phantom.tube_left == phantom.tube_front,
    )
    return {label: int(truth) for label, truth in zip(LABELS, truths, strict=True)}


def attenuation(phantom: Phantom, view: str, size: int = 64) -> Floats:
    """(size, size) integral of mu along the beam, no unit; row 0 is the top of the film.

    Columns run from the patient's right to the left (frontal), from front to back (lateral).
    """
    build, rays = phantom.build, _rays(view, size, phantom.build.shift)
    heart = rays.span(build.heart)
    air = rays.length(Ellipsoid((0, 0.5, 13.5), (0.9, 0.9, 9.5)))
    for lung, dome in zip(build.lungs, build.domes, strict=True):
        air = air + _aerated(rays.span(lung), heart, rays.span(dome))
    solid = rays.in_rods(build.vessels, 0.33)
    mimic = phantom.mimic if phantom.mimic_on == view else None
    for lump in (phantom.apical_nodule, phantom.retrocardiac_nodule, mimic):
        if lump is not None:
            solid = solid + rays.length(lump)
    bone = rays.length(build.spine) * (0.45 + 0.55 * rays.share_in_slabs(0.0, 2.7, 2.0))
    bone = bone + rays.length(Ellipsoid((0, 9.0, 1.0), (1.6, 0.5, 8.5))) + _ribs(build, rays)
    integral = SOFT * rays.length(build.body) + (SOFT - LUNG) * (solid - air)
    integral = build.density * (integral + (BONE - SOFT) * bone)
    return integral + METAL * rays.in_rods(_tube(phantom), 0.4)


def render(
    phantom: Phantom, size: int = 64, rng: np.random.Generator | None = None
) -> dict[str, NDArray[np.uint8]]:
    """{view: (size, size) uint8 film}, dense tissue bright; free of noise without `rng`."""
    streams = rng.spawn(len(VIEWS)) if rng is not None else (None, None)
    return {
        view: _expose(np.exp(-attenuation(phantom, view, size)), PHOTONS[view], stream)
        for view, stream in zip(VIEWS, streams, strict=True)
    }


def write_phantoms(folder: Path, studies: int = 1200, seed: int = 0, size: int = 64) -> Path:
    """Write folder/images/*.png and folder/studies.csv, one row per film; gives the table's path.

    About 5% of the studies lack the one film, 5% the other, and 5% of the labels are blank.
    Study i is the same, byte for byte, however many are asked for.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    table = folder / "studies.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for number, (patient, phantom, rng) in enumerate(islice(visits(seed), studies)):
            films, study = render(phantom, size, rng), f"S{number:05d}"
            unknown, truths = rng.random(len(LABELS)) < UNKNOWN_LABEL, labels_of(phantom).values()
            cells = ["" if blank else truth for blank, truth in zip(unknown, truths, strict=True)]
            for view in kept_views(rng):
                path = f"images/{study}_{ALIASES[view]}.png"
                Image.fromarray(films[view]).save(folder / path)
                writer.writerow([study, f"{patient:04d}", ALIASES[view], path, *cells])
    return table


def kept_views(rng: np.random.Generator) -> tuple[str, ...]:
    """The views that a study has: now and then one is lost, never both."""
    lost = int(rng.random() / MISSING_VIEW)
    return tuple(view for index, view in enumerate(VIEWS) if index != lost)


def _rays(view: str, size: int, shift: Point) -> Rays:
    """The rays of a film in the frame of a body that stands `shift` cm off its middle."""
    step = FILM_CM / size
    ruler = (np.arange(size) + 0.5) * step - FILM_CM / 2
    z = -ruler[:, None] - shift[2]
    if view == "frontal":
        return Rays(1, ruler[None, :] - shift[0], z, step)
    return Rays(0, -ruler[None, :] - shift[1], z, step)


def _expose(primary: Floats, photons: float, rng: np.random.Generator | None) -> NDArray[np.uint8]:
    """Transmitted share of the beam -> film: scatter, blur, photon counting, -log, window."""
    gain, blur = (1.0, 0.15) if rng is None else (rng.normal(1.0, 0.03), rng.uniform(0.08, 0.2))
    body = primary < AIR
    light = np.pad(primary + SCATTER * primary[body].mean(), 1, mode="edge")
    light = (1 - 2 * blur) * light[1:-1] + blur * (light[:-2] + light[2:])
    light = (1 - 2 * blur) * light[:, 1:-1] + blur * (light[:, :-2] + light[:, 2:])
    if rng is not None:
        light = np.maximum(rng.poisson(light * photons), 1) / photons
    density = -np.log(light)
    low, high = np.percentile(density[body], (1.0, 99.0))
    grey = 0.08 + 0.86 * gain * (density - low) / (high - low)
    return np.clip(255 * grey, 0, 255).astype(np.uint8)


def _ellipsoid(centre: Point | Floats, half: Point | Floats, scale: Floats) -> Ellipsoid:
    (cx, cy, cz), (hx, hy, hz) = ((np.asarray(v) * scale).tolist() for v in (centre, half))
    return Ellipsoid((cx, cy, cz), (hx, hy, hz))


def _draw_vessels(side: int, rng: np.random.Generator) -> Floats:
    """(4, 2, 3) ends of vessels that fan out from one hilum, cm."""
    angle = rng.uniform(-1.3, 1.3, 4)
    reach = np.stack([side * 6.0 * np.cos(angle), rng.normal(0, 2.5, 4), 8.0 * np.sin(angle)], 1)
    hilum = np.tile((side * 2.8, 0.0, 0.5), (4, 1))
    return np.stack([hilum, hilum + reach * rng.uniform(0.6, 1.0, (4, 1))], 1)


def _draw_apical(build: Build, rng: np.random.Generator) -> Ellipsoid:
    x, y, z = build.lungs[int(rng.integers(2))].centre
    centre = (x + rng.normal(0, 0.6), y + rng.normal(0, 0.6), z + rng.uniform(7.0, 9.0))
    return _ellipsoid(centre, rng.uniform(1.35, 1.75, 3), np.ones(3))


def _draw_retrocardiac(heart: Ellipsoid, rng: np.random.Generator) -> Ellipsoid:
    """Flat from front to back: faint on the frontal film, long along the lateral beam."""
    centre: Floats = np.array(heart.centre) + rng.normal((-1.0, -1.2, 0), (0.6, 0.3, 1.2))
    centre[1] -= heart.half[1]
    return _ellipsoid(centre, rng.uniform((2.6, 0.55, 1.3), (3.2, 0.65, 1.7)), np.ones(3))


def _tube(phantom: Phantom) -> Floats:
    """(2, 2, 3): ends of its way down the windpipe and of the leg to the tip, cm."""
    signs = (1 if phantom.tube_left else -1, 1 if phantom.tube_front else -1, -1)
    carina = np.array([0.0, 0.5, 4.5])
    tip = carina + np.multiply(signs, phantom.tube_reach)
    return np.array([[(0.0, 0.5, 25.0), carina], [carina, tip]])


def _aerated(lung: Span, heart: Span, dome: Span) -> Floats:
    """Length in the lung outside of the heart and the diaphragm, by inclusion and exclusion."""
    outside = shared_length(lung) - shared_length(lung, heart) - shared_length(lung, dome)
    return outside + shared_length(lung, heart, dome)


def _ribs(build: Build, rays: Rays) -> Floats:
    """Length in bone (cm): a thin elliptic shell around the lungs, cut into tilted slabs."""
    wide, deep, _ = build.lungs[1].half
    enter, leave = rays.span(Ellipsoid((0, 0, 0), (2.35 * wide, 1.21 * deep, np.inf)))
    inner = rays.length(Ellipsoid((0, 0, 0), (2.25 * wide, 1.13 * deep, np.inf)))
    # A frontal ray meets the cage behind and in front, at the two ends of its segment; along a
    # lateral ray both walls lie equally far forward.
    depths = (enter, leave) if rays.beam == 1 else (rays.u, rays.u)
    front, back = (rays.share_in_slabs(build.rib_tilt * y, 2.9, 1.0) for y in depths)
    return (leave - enter - inner) / 2 * (front + back)
