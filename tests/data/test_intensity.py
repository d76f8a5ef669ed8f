"""Brightness: the range a file allows, what lies between percentiles, or a window."""

import numpy as np
import pytest
from pydantic import ValidationError

from mvp.config import TransformConfig
from mvp.data.intensity import unit_range
from mvp.data.reading.stack import UNSAID, Shown, Window
from mvp.errors import ImageError

FULL = TransformConfig()
BY_FILE = TransformConfig(intensity="window")


def levels(dtype=np.uint16, top=4096):
    return np.arange(top, dtype=dtype).reshape(-1, 64)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_says_nothing_has_the_range_of_its_type(dtype):
    values = levels(dtype, np.iinfo(dtype).max + 1)
    wanted = values.astype(np.float32) / np.float32(np.iinfo(dtype).max)
    for config in (FULL, BY_FILE):
        np.testing.assert_array_equal(unit_range(values, UNSAID, config), wanted)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_range_in_whole_numbers_gives_what_float64_gives_rounded(dtype):
    """Bit for bit, or the same film would have other features than are stored of it."""
    top = np.iinfo(dtype).max
    values, rng = levels(dtype, top + 1), np.random.default_rng(0)
    ranges = [(0, top), (0, 4095), (-1024, 3071), (0.5, 100.25), (-3e9, 7e9), (0, 1), (7, 1 << 22)]
    ranges += [tuple(sorted(rng.integers(-70_000, 140_000, 2))) for _ in range(20)]
    for low, high in ranges:
        found = unit_range(values, Shown(float(low), float(high)), FULL)
        exact = np.clip((values.astype(np.float64) - low) / (float(high) - low), 0, 1)
        assert found.dtype == np.float32
        assert found.tobytes() == exact.astype(np.float32).tobytes()


@pytest.mark.parametrize("config", [FULL, BY_FILE])
def test_floats_have_a_full_range_when_the_file_says_it(config):
    values = np.array([[-1024, 0, 3071, 9000, -9000]], np.float32)
    bright = unit_range(values, Shown(-1024, 3071), config)
    np.testing.assert_allclose(bright, [[0, 1024 / 4095, 1, 1, 0]], atol=1e-6)
    with pytest.raises(ImageError, match="percentile"):
        unit_range(values, UNSAID, config)
    assert not unit_range(values, Shown(5, 5), config).any()


@pytest.mark.parametrize("unit", [1e-30, 1e-9, 1, 1e9])
def test_percentiles_do_not_depend_on_the_unit(unit):
    """Diffusion in m²/s lies within 1e-9."""
    config = TransformConfig(intensity="percentile", percentiles=(0, 100))
    values = np.linspace(1, 3, 64).reshape(8, 8)
    bright = unit_range((values * unit).astype(np.float32), UNSAID, config)
    np.testing.assert_allclose(bright, (values - 1) / 2, atol=1e-5)
    flat = np.full((8, 8), unit, np.float32)
    assert not unit_range(flat, UNSAID, config).any()


def test_a_fixed_window_is_that_of_every_file():
    config = TransformConfig(intensity="window", window=(40, 400))
    values = np.array([[-1000, -160, 40, 240, 3000]], np.float32)
    for shown in (UNSAID, Shown(window=Window(0, 1)), Shown(table=(0.0, (0.0, 1.0)))):
        np.testing.assert_allclose(unit_range(values, shown, config), [[0, 0, 0.5, 1, 1]])
    narrow = TransformConfig(intensity="window", window=(0.5, 0.25))
    np.testing.assert_allclose(unit_range(values / 480, UNSAID, narrow)[0, -2:], [0.5, 1])


def test_a_table_and_what_lies_beside_it():
    shown = Shown(table=(10.0, (0.0, 0.25, 1.0)), window=Window(0, 1))
    values = np.array([[0, 10, 11, 12, 90]])
    for dtype in (np.uint8, np.uint16, np.float32):
        bright = unit_range(values.astype(dtype), shown, BY_FILE)
        assert bright.dtype == np.float32
        np.testing.assert_array_equal(bright, [[0, 0, 0.25, 1, 1]])


def test_colours_keep_their_channels():
    rgb = np.zeros((4, 5, 3), np.uint8)
    rgb[..., 1] = 128
    config = TransformConfig(intensity="window", window=(128, 100), color="rgb")
    np.testing.assert_array_equal(unit_range(rgb, UNSAID, config)[0, 0], [0, 0.5, 0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"intensity": "window", "window": (40, 0)},
        {"intensity": "window", "window": (40, -1)},
        {"intensity": "window", "window": (float("nan"), 1)},
        {"intensity": "window", "window": (1, float("inf"))},
        {"intensity": "window", "window": "files"},
        {"intensity": "full", "window": (40, 400)},
        {"intensity": "percentile", "window": (40, 400)},
    ],
)
def test_windows_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValidationError, match="window"):
        TransformConfig(**wrong)
