"""The box that holds the patient: without labels, frames and air, and never too small."""

import numpy as np
import pytest

from mvp.config import TransformConfig
from mvp.data.cropping import Box, find_box, otsu
from mvp.data.transforms import Transform


def body(height=400, width=300, dtype=np.uint16):
    """Air of some noise, and an ellipse with a dark lung."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:height, :width]
    values = rng.normal(300, 60, (height, width))
    ellipse = ((y - 220) / 140) ** 2 + ((x - 140) / 90) ** 2 < 1
    lung = ((y - 200) / 50) ** 2 + ((x - 130) / 30) ** 2 < 1
    values[ellipse] += 9000 - 5000 * lung[ellipse]
    return values.clip(0, 65535).astype(dtype)


def breast(height=1000, width=800, side="left"):
    """A half disc at the chest wall, dim at its rim, on black film."""
    y, x = np.mgrid[:height, :width]
    away = np.hypot(y - 480, x * 1.1)
    values = np.where(away < 330, 8000 + 40000 * (1 - away / 330), 0)
    values = values if side == "left" else values[:, ::-1]
    return values.astype(np.uint16)


TIGHT = Box(150, 810, 0, 300)


def near(box, wanted, shape, off=0.035):
    """Holds what is wanted, and at most the margin more."""
    rows, columns = off * shape[0], off * shape[1]
    return (
        wanted.top - rows <= box.top <= wanted.top + 3
        and wanted.left - columns <= box.left <= wanted.left + 3
        and wanted.bottom - 3 <= box.bottom <= wanted.bottom + rows
        and wanted.right - 3 <= box.right <= wanted.right + columns
    )


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_the_body_with_its_lung_and_nothing_of_the_air(dtype):
    assert near(find_box(body(dtype=dtype), "body"), Box(80, 361, 50, 231), (400, 300))


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_breast_whole_and_on_its_side(side):
    wanted = TIGHT if side == "left" else Box(150, 810, 500, 800)
    assert near(find_box(breast(side=side), "breast"), wanted, (1000, 800))


def test_a_label_in_the_air_or_a_bridge_to_it_changes_nothing():
    film = breast()
    film[60:120, 500:700] = 65535
    assert near(find_box(film, "breast"), TIGHT, (1000, 800))
    film[90:480, 598:602] = 65535
    film[478:482, 200:602] = 65535
    assert near(find_box(film, "breast"), TIGHT, (1000, 800))


@pytest.mark.parametrize("wide", [8, 40])
def test_the_white_frame_of_a_scanned_film_is_left_out(wide):
    film = breast()
    film[:wide] = film[-wide:] = 60000
    film[:, -wide:] = 60000
    box = find_box(film, "breast")
    assert near(box, TIGHT, (1000, 800))
    # `body` knows of no frames: they are as bright as bone.
    assert find_box(film, "body") == Box(0, 1000, 0, 800)


def test_a_breast_as_high_as_the_film_is_no_frame():
    film = np.zeros((1000, 800), np.uint16)
    film[:, :300] = 30000
    film[:, 300:400] = 12000
    assert near(find_box(film, "breast"), Box(0, 1000, 0, 400), film.shape)


@pytest.mark.parametrize("what", ["body", "breast"])
@pytest.mark.parametrize(
    "values",
    [
        np.zeros((50, 60), np.uint16),
        np.full((50, 60), 7, np.float32),
        np.zeros((1, 1), np.uint8),
        np.pad(np.full((3, 3), 255, np.uint8), ((20, 177), (20, 177))),  # a label alone
        np.zeros((3, 9000), np.uint8),
    ],
)
def test_where_nothing_is_told_apart_the_whole_picture_is_kept(values, what):
    assert find_box(values, what) == Box(0, values.shape[0], 0, values.shape[1])


def test_a_bright_collimator_beside_a_leg_is_not_the_body():
    """The box of a body has to hold the middle of the picture."""
    film = np.full((300, 300), 200, np.uint16)
    film[:, 240:] = 60000
    assert find_box(film, "body") == Box(0, 300, 0, 300)


def test_colour_is_cropped_as_grey_is():
    grey = (body() // 64).astype(np.uint8)
    assert find_box(np.repeat(grey[..., None], 3, axis=2), "body") == find_box(grey, "body")


def test_the_same_every_time_and_the_input_is_left_alone():
    film = breast()
    before = film.copy()
    assert find_box(film, "breast") == find_box(film.copy(), "breast")
    np.testing.assert_array_equal(film, before)


def test_otsu_divides_two_heaps_where_they_part():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(10, 1, 500), rng.normal(50, 4, 300)])
    assert 13 < otsu(values) < 38
    assert otsu(np.ones(9)) is None


def test_a_prepared_image_shows_the_box_alone():
    film = breast()
    box = find_box(film, "breast")
    settings = {"size": 64, "fit": "stretch", "intensity": "percentile"}
    cut = Transform(TransformConfig(crop="breast", **settings)).prepare(film)
    by_hand = Transform(TransformConfig(**settings)).prepare(
        film[box.top : box.bottom, box.left : box.right]
    )
    np.testing.assert_array_equal(cut, by_hand)
    whole = Transform(TransformConfig(**settings)).prepare(film)
    assert cut.mean() > 2 * whole.mean()
