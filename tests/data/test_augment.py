import numpy as np
import pytest
import torch

from mvp.config import AugmentConfig
from mvp.data.augment import Augmentation

NOTHING = dict.fromkeys(["rotate", "shift", "scale", "brightness", "contrast"], 0.0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def augmentation(**settings):
    return Augmentation(AugmentConfig(**{**NOTHING, **settings}))


def corner(height=33, width=33):
    """A bright block to the left of and above the middle."""
    image = torch.zeros(1, 1, height, width)
    image[..., 4:9, 4:9] = 1
    return image


def centre(image):
    """Rows and columns of the centre of brightness, from the middle of the image."""
    height, width = image.shape[-2:]
    rows = torch.arange(height) - (height - 1) / 2
    columns = torch.arange(width) - (width - 1) / 2
    total = image.sum()
    return float((image[0, 0].sum(1) * rows).sum() / total), float(
        (image[0, 0].sum(0) * columns).sum() / total
    )


def test_nothing_switched_on_changes_nothing():
    batch = torch.rand(3, 1, 8, 8)
    assert torch.equal(augmentation()(batch, generator()), batch)


def test_the_same_seed_gives_the_same_images_and_the_input_stays():
    batch = torch.rand(4, 3, 16, 20)
    before = batch.clone()
    augment = Augmentation(AugmentConfig(flip=True))
    one, two, other = (augment(batch, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(batch, before)
    assert one.shape == batch.shape
    assert 0 <= one.min() <= one.max() <= 1


def test_torchs_global_generator_is_neither_read_nor_moved():
    state = torch.get_rng_state()
    Augmentation(AugmentConfig())(torch.rand(2, 1, 8, 8, generator=generator()), generator())
    assert torch.equal(torch.get_rng_state(), state)


def test_each_image_is_changed_by_itself():
    changed = Augmentation(AugmentConfig())(corner().repeat(4, 1, 1, 1), generator())
    assert len({tuple(image.flatten().tolist()) for image in changed}) == 4


@pytest.mark.parametrize("shape", [(33, 33), (33, 61), (61, 33)])
def test_a_turn_is_rigid(shape):
    image = torch.zeros(1, 1, *shape)
    middle_row, middle_column = shape[0] // 2, shape[1] // 2
    image[..., middle_row, middle_column + 10] = 1
    for seed in range(5):
        turned = augmentation(rotate=60)(image, generator(seed))
        row, column = centre(turned)
        assert (row**2 + column**2) ** 0.5 == pytest.approx(10, abs=0.7)


def test_turns_and_shifts_stay_within_their_limits_on_both_sides():
    rows = [centre(augmentation(shift=0.1)(corner(), generator(s)))[0] for s in range(30)]
    still = centre(corner())[0]
    assert max(abs(r - still) for r in rows) <= 0.1 * 33 + 0.1
    assert min(rows) < still - 1 < still + 1 < max(rows)


def test_sizes_change_within_their_limit():
    sums = [float(augmentation(scale=0.2)(corner(), generator(s)).sum()) for s in range(30)]
    assert 25 * 0.8**2 - 2 <= min(sums) < 24 < 26 < max(sums) <= 25 * 1.2**2 + 2


def test_left_stays_left_unless_flips_are_switched_on():
    strong = Augmentation(AugmentConfig())
    assert all(centre(strong(corner(), generator(s)))[1] < 0 for s in range(40))
    sides = {centre(augmentation(flip=True)(corner(), generator(s)))[1] > 0 for s in range(20)}
    assert sides == {True, False}
    flipped = next(
        image
        for image in (augmentation(flip=True)(corner(), generator(s)) for s in range(20))
        if centre(image)[1] > 0
    )
    torch.testing.assert_close(flipped, corner().flip(3), rtol=0, atol=1e-5)


def test_light_changes_within_its_limits():
    grey = torch.full((200, 1, 4, 4), 0.5)
    means = augmentation(brightness=0.2)(grey, generator()).mean((1, 2, 3))
    assert 0.3 <= means.min() < 0.35 < 0.65 < means.max() <= 0.7
    half = torch.zeros(200, 1, 4, 4)
    half[..., :2] = 0.4
    half[..., 2:] = 0.6
    spreads = augmentation(contrast=0.5)(half, generator()).amax((1, 2, 3)) - 0.5
    assert 0.05 <= spreads.min() < 0.06 < 0.14 < spreads.max() <= 0.15 + 1e-6


def test_all_slices_of_a_volume_are_changed_alike_and_volumes_by_themselves():
    counts = np.array([3, 1, 4])
    strong = Augmentation(AugmentConfig(rotate=60, flip=True))
    changed = strong(corner().repeat(8, 1, 1, 1), generator(), counts)
    parts = changed.split(counts.tolist())
    assert all(torch.equal(part, part[:1].expand_as(part)) for part in parts)
    assert len({tuple(part[0].flatten().tolist()) for part in parts}) == 3


def test_contrast_turns_about_the_mean_of_the_volume():
    dark, bright = torch.full((1, 1, 4, 4), 0.3), torch.full((1, 1, 4, 4), 0.7)
    for seed in range(5):
        augment = augmentation(contrast=0.5)
        changed = augment(torch.cat([dark, bright]), generator(seed), np.array([2]))
        assert float(changed.mean()) == pytest.approx(0.5, abs=1e-6)
        # By itself neither would change, and their difference would stay.
        assert float(changed[1].mean() - changed[0].mean()) != pytest.approx(0.4, abs=1e-3)


def test_volumes_of_one_slice_are_images():
    batch = torch.rand(4, 1, 16, 16)
    augment = Augmentation(AugmentConfig())
    one = augment(batch, generator(), np.ones(4, np.int64))
    torch.testing.assert_close(one, augment(batch, generator()), rtol=0, atol=1e-6)
