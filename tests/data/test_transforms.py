"""The preparation: the right way round, at full depth, and named by its digest."""

import numpy as np
import pytest
import torch

from mvp.config import TransformConfig
from mvp.data.transforms import Transform
from mvp.errors import ImageError


def transform(**settings):
    return Transform(TransformConfig(**{"size": 32, **settings}))


def noise(height=20, width=30, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (height, width), dtype)


def marked(height, width):
    """White in the upper left quarter, black elsewhere."""
    values = np.zeros((height, width), np.uint8)
    values[: height // 2, : width // 2] = 255
    return values


@pytest.mark.parametrize("fit", ["letterbox", "stretch", "crop"])
@pytest.mark.parametrize("shape", [(40, 40), (20, 60), (60, 20), (7, 9)])
def test_nothing_is_flipped_and_the_size_is_kept(fit, shape):
    image = transform(fit=fit).prepare(marked(*shape))[0]
    assert image.shape == (32, 32)
    rows, columns = torch.arange(32.0), torch.arange(32.0)
    total = image.sum()
    row, column = (image.sum(1) @ rows) / total, (image.sum(0) @ columns) / total
    assert row < 15.5
    assert column < 15.5
    assert image[:16, :16].mean() > 2 * image[16:, 16:].mean()


def test_letterbox_keeps_all_and_pads_with_black():
    image = transform().prepare(np.full((16, 64), 255, np.uint8))[0]
    assert (image[12:20] == 1).all()
    assert (image[:12] == 0).all()
    assert (image[20:] == 0).all()


def test_crop_takes_the_middle():
    values = np.zeros((32, 96), np.uint8)
    values[:, 32:64] = 255
    assert (transform(fit="crop").prepare(values) == 1).all()


def test_stretch_fills_everything():
    image = transform(fit="stretch").prepare(np.full((5, 90), 255, np.uint8))
    torch.testing.assert_close(image, torch.ones(1, 32, 32))


def test_an_image_of_the_right_size_is_not_touched():
    values = noise(32, 32, np.uint16)
    image = transform().prepare(values)[0].numpy()
    np.testing.assert_array_equal(image, values.astype(np.float32) / np.float32(65535))


def test_16_bit_precision_survives():
    """Two neighbouring grey values of a 12-bit film stay two values."""
    values = np.array([[1000, 1001]] * 2, np.uint16).repeat(16, 0).repeat(16, 1)
    image = transform().prepare(values)[0]
    assert len(image.unique()) == 2
    assert float(image.max() - image.min()) == pytest.approx(1 / 65535, rel=1e-2)


def test_percentiles_stretch_what_lies_between():
    values = np.linspace(1000, 3000, 32 * 32).reshape(32, 32)
    for pixels in (values.astype(np.uint16), values.astype(np.float32)):
        image = transform(intensity="percentile", percentiles=(10, 90)).prepare(pixels)
        assert float(image.min()) == 0
        assert float(image.max()) == 1
        assert float(image.median()) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("value", [0.0, 5.0, 3e38, -3e38])
def test_flat_and_extreme_images_stay_finite(value):
    pixels = np.full((8, 8), value, np.float32)
    pixels[0, 0] = -value
    image = transform(intensity="percentile", percentiles=(0, 100)).prepare(pixels)
    assert torch.isfinite(image).all()
    assert 0 <= float(image.min()) <= float(image.max()) <= 1


def test_float_pixels_have_no_full_range():
    with pytest.raises(ImageError, match="percentile"):
        transform().prepare(np.zeros((8, 8), np.float32))


def test_a_strip_is_not_cropped_into_gigabytes():
    with pytest.raises(ImageError, match="letterbox"):
        transform(fit="crop").prepare(np.zeros((1, 200_000), np.uint8))
    assert transform().prepare(np.zeros((1, 200_000), np.uint8)).shape == (1, 32, 32)


def test_colour_becomes_grey_by_luminance_and_grey_becomes_colour():
    rgb = np.zeros((32, 32, 3), np.uint8)
    rgb[..., 1] = 255
    assert float(transform().prepare(rgb).mean()) == pytest.approx(0.587)
    colour = transform(color="rgb")
    assert colour.channels == 3
    assert colour.prepare(rgb).mean(dim=(1, 2)).tolist() == [0, 1, 0]
    repeated = colour.prepare(noise(32, 32))
    assert torch.equal(repeated[0], repeated[2])


def test_finish_repeats_grey_and_normalises_each_channel():
    settings = {"mean": [0.1, 0.2, 0.3], "std": [1, 2, 4]}
    batch = torch.rand(2, 1, 4, 4)
    finished = transform(**settings).finish(batch)
    assert finished.shape == (2, 3, 4, 4)
    for channel, (mean, std) in enumerate(zip([0.1, 0.2, 0.3], [1, 2, 4], strict=True)):
        torch.testing.assert_close(finished[:, channel], (batch[:, 0] - mean) / std)


def test_the_same_every_time_and_the_input_is_left_alone():
    values = noise(50, 33, np.uint16)
    before = values.copy()
    for fit in ("letterbox", "stretch", "crop"):
        t = transform(fit=fit, intensity="percentile")
        assert torch.equal(t.prepare(values), t.prepare(values.copy()))
    np.testing.assert_array_equal(values, before)


CHANGES = {
    "size": 33,
    "fit": "crop",
    "color": "rgb",
    "crop": "body",
    "intensity": "percentile",
    "mean": [0.485, 0.456, 0.407],
    "std": [0.229, 0.224, 0.226],
}


def test_the_digest_changes_with_every_setting_that_changes_numbers():
    digests = [transform().digest] + [transform(**{k: v}).digest for k, v in CHANGES.items()]
    digests.append(transform(intensity="percentile", percentiles=(1, 99)).digest)
    digests.append(transform(crop="breast").digest)
    for window in ("file", (40, 400), (40, 401)):
        digests.append(transform(intensity="window", window=window).digest)
    assert len(set(digests)) == len(digests)
    # A new setting has to be added above, or to those that change nothing.
    assert set(TransformConfig.model_fields) == {*CHANGES, "percentiles", "window"}


def test_the_digest_stays_where_numbers_stay():
    assert transform(percentiles=(1, 99)).digest == transform().digest
    assert transform(std=[1, 1, 1]).digest == transform(std=[1.0, 1.0, 1.0]).digest
    assert transform(size=32).digest == transform().digest
    # Settings that are not used stand in no key.
    assert not {"percentiles", "window", "crop"} & transform().spec.keys()


def test_the_digest_changes_with_the_reader(monkeypatch):
    before = transform().digest
    monkeypatch.setattr("mvp.data.transforms.READER_VERSION", 99)
    assert transform().digest != before
    monkeypatch.undo()
    monkeypatch.setattr("mvp.data.transforms.TRANSFORM_VERSION", 99)
    assert transform().digest != before
