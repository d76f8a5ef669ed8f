import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mvp.config import AugmentConfig
from mvp.config.augment import PRESETS
from mvp.data.augment import Augmentation

FIELDS = sorted(name for name in AugmentConfig.model_fields if name != "preset")
ALL_ON = {
    "rotate": 30.0,
    "shift": 0.1,
    "scale": 0.1,
    "crop": 0.5,
    "flip": True,
    "vertical_flip": True,
    "brightness": 0.2,
    "contrast": 0.2,
    "gamma": 0.5,
    "saturation": 0.5,
    "hue": 0.2,
    "blur": 2.0,
    "noise": 0.1,
    "erase": 0.7,
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def augmentation(**settings):
    return Augmentation(AugmentConfig(preset="none", **settings))


def picture(rows=1, channels=1, side=24, seed=3):
    return torch.rand(rows, channels, side, side, generator=generator(seed))


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


def test_every_setting_is_tried_here():
    assert sorted(ALL_ON) == FIELDS


def test_nothing_switched_on_changes_nothing():
    batch = picture(3)
    assert torch.equal(augmentation()(batch, [0, 1, 2]), batch)


@pytest.mark.parametrize("name", FIELDS)
def test_a_setting_alone_changes_images_and_its_off_does_not(name):
    batch = picture(8, 3)
    changed = augmentation(**{name: ALL_ON[name]})(batch, range(8))
    assert not torch.equal(changed, batch)
    assert 0 <= changed.min() <= changed.max() <= 1
    assert changed.shape == batch.shape
    off = {**ALL_ON, name: type(ALL_ON[name])(0)}
    assert name not in AugmentConfig(preset="none", **off).changes
    assert torch.equal(augmentation(**{name: off[name]})(batch, range(8)), batch)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_its_settings_and_what_is_said_comes_before_it(preset):
    config = AugmentConfig(preset=preset)
    assert config.changes == PRESETS[preset]
    said = AugmentConfig(preset=preset, rotate=77.0, contrast=0.0)
    assert (said.rotate, said.contrast) == (77.0, 0.0)
    batch = picture(2, 3)
    explicit = augmentation(**PRESETS[preset])(batch, [1, 2])
    assert torch.equal(Augmentation(config)(batch, [1, 2]), explicit)


def test_no_preset_of_medical_images_flips():
    assert not any(PRESETS[p].get("flip") for p in ("cxr", "mammo", "mri", "none"))
    assert not any(PRESETS[p].get("vertical_flip") for p in PRESETS)


def test_an_unknown_preset_is_refused():
    for wrong in ("xray", 3, ["cxr"]):
        with pytest.raises(ValidationError, match="preset"):
            AugmentConfig(preset=wrong)


def test_the_same_seed_gives_the_same_images_and_the_input_stays():
    batch = picture(4, 3)
    before = batch.clone()
    augment = augmentation(**ALL_ON)
    one, two, other = (augment(batch, range(seed, seed + 4)) for seed in (1, 1, 11))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(batch, before)
    assert one.shape == batch.shape
    assert 0 <= one.min() <= one.max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_an_images_change_is_the_same_bit_for_bit_in_whatever_batch(channels):
    batch, seeds = picture(5, channels), [7, 8, 9, 10, 11]
    augment = augmentation(**ALL_ON)
    together = augment(batch, seeds)
    for place in (3, 0, 4):
        alone = augment(batch[place : place + 1], [seeds[place]])
        assert torch.equal(alone[0], together[place])
    turned = augment(batch.flip(0), seeds[::-1])
    assert torch.equal(turned.flip(0), together)


def test_one_setting_does_not_move_the_chance_of_another():
    batch = picture(4)
    light = augmentation(brightness=0.2)(batch, range(4))
    both = augmentation(brightness=0.2, erase=1.0)(batch, range(4))
    kept = both != 0
    assert kept.any()
    assert torch.equal(both[kept], light[kept])


def test_torchs_global_generator_is_neither_read_nor_moved():
    state = torch.get_rng_state()
    first = augmentation(**ALL_ON)(picture(2, 3), [0, 1])
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(augmentation(**ALL_ON)(picture(2, 3), [0, 1]), first)


@pytest.mark.parametrize("name", FIELDS)
def test_each_image_is_changed_by_itself(name):
    batch = picture(1, 3).repeat(12, 1, 1, 1)
    changed = augmentation(**{name: ALL_ON[name]})(batch, range(12))
    different = len({tuple(image.flatten().tolist()) for image in changed})
    assert different == 2 if "flip" in name else different > 5


@pytest.mark.parametrize("shape", [(33, 33), (33, 61), (61, 33)])
def test_a_turn_is_rigid(shape):
    image = torch.zeros(1, 1, *shape)
    middle_row, middle_column = shape[0] // 2, shape[1] // 2
    image[..., middle_row, middle_column + 10] = 1
    for seed in range(5):
        turned = augmentation(rotate=60)(image, [seed])
        row, column = centre(turned)
        assert (row**2 + column**2) ** 0.5 == pytest.approx(10, abs=0.7)


def test_turns_and_shifts_stay_within_their_limits_on_both_sides():
    rows = [centre(augmentation(shift=0.1)(corner(), [s]))[0] for s in range(30)]
    still = centre(corner())[0]
    assert max(abs(r - still) for r in rows) <= 0.1 * 33 + 0.1
    assert min(rows) < still - 1 < still + 1 < max(rows)


def test_sizes_change_within_their_limit():
    sums = [float(augmentation(scale=0.2)(corner(), [s]).sum()) for s in range(30)]
    assert 25 * 0.8**2 - 2 <= min(sums) < 24 < 26 < max(sums) <= 25 * 1.2**2 + 2


def test_a_crop_keeps_at_least_its_share_and_never_leaves_the_image():
    across = torch.linspace(0.1, 0.9, 65).repeat(65, 1)[None, None]
    for image in (across, across.transpose(2, 3)):
        seen = augmentation(crop=0.75)(image.repeat(60, 1, 1, 1), range(60))
        # Nothing black comes in: what is shown lies within what was there.
        assert 0.1 - 1e-3 <= seen.min() <= seen.max() <= 0.9 + 1e-3
        spans = (seen.amax((1, 2, 3)) - seen.amin((1, 2, 3))) / 0.8
        # A quarter of the area at the aspect 3/4 has .43 of the length.
        assert 0.41 <= spans.min() < 0.6 < 0.9 < spans.max() <= 1.01
        middles = seen.mean((1, 2, 3))
        assert middles.min() < 0.4 < 0.6 < middles.max()


def test_left_stays_left_unless_flips_are_switched_on():
    strong = Augmentation(AugmentConfig())
    assert all(centre(strong(corner(), [s]))[1] < 0 for s in range(40))
    sides = {centre(augmentation(flip=True)(corner(), [s]))[1] > 0 for s in range(20)}
    assert sides == {True, False}
    flipped = next(
        image
        for image in (augmentation(flip=True)(corner(), [s]) for s in range(20))
        if centre(image)[1] > 0
    )
    torch.testing.assert_close(flipped, corner().flip(3), rtol=0, atol=1e-5)


def test_up_stays_up_unless_vertical_flips_are_switched_on():
    images = [augmentation(vertical_flip=True)(corner(), [s]) for s in range(20)]
    assert {centre(image)[0] > 0 for image in images} == {True, False}
    assert all(centre(image)[1] < 0 for image in images)
    over = next(image for image in images if centre(image)[0] > 0)
    torch.testing.assert_close(over, corner().flip(2), rtol=0, atol=1e-5)


def test_light_changes_within_its_limits():
    grey = torch.full((200, 1, 4, 4), 0.5)
    means = augmentation(brightness=0.2)(grey, range(200)).mean((1, 2, 3))
    assert 0.3 <= means.min() < 0.35 < 0.65 < means.max() <= 0.7
    half = torch.zeros(200, 1, 4, 4)
    half[..., :2] = 0.4
    half[..., 2:] = 0.6
    spreads = augmentation(contrast=0.5)(half, range(200)).amax((1, 2, 3)) - 0.5
    assert 0.05 <= spreads.min() < 0.06 < 0.14 < spreads.max() <= 0.15 + 1e-6


def test_gamma_leaves_black_and_white_and_is_a_power_within_its_limits():
    image = torch.tensor([0.0, 0.5, 1.0]).repeat(200, 1, 4, 1)
    changed = augmentation(gamma=1.0)(image, range(200))
    assert changed[..., 0].max() == 0
    assert changed[..., 2].min() == 1
    powers = changed[:, 0, 0, 1].log() / torch.tensor(0.5).log()
    assert 0.5 - 1e-4 <= powers.min() < 0.55 < 1.9 < powers.max() <= 2 + 1e-4
    assert 80 < int((powers < 1).sum()) < 120


def test_saturation_and_hue_leave_grey_images_as_they_are():
    grey = picture(4).repeat(1, 3, 1, 1)
    for one in ({"saturation": 0.9}, {"hue": 0.5}):
        torch.testing.assert_close(augmentation(**one)(grey, range(4)), grey, atol=1e-3, rtol=0)
        assert torch.equal(augmentation(**one)(grey[:, :1], range(4)), grey[:, :1])


def test_saturation_draws_colours_to_grey_and_away_and_hue_turns_them():
    red = torch.tensor([0.6, 0.3, 0.3]).view(1, 3, 1, 1).repeat(100, 1, 4, 4)
    changed = augmentation(saturation=0.5)(red, range(100))[:, :, 0, 0]
    spreads = changed[:, 0] - changed[:, 1]
    assert 0.15 - 1e-4 <= spreads.min() < 0.17 < 0.43 < spreads.max() <= 0.45 + 1e-4
    turned = augmentation(hue=0.5)(red, range(100))[:, :, 0, 0]
    assert set(turned.argmax(dim=1).tolist()) == {0, 1, 2}
    torch.testing.assert_close(turned.amax(1), torch.full((100,), 0.6))


def test_blur_spreads_a_point_by_its_deviation_and_loses_nothing():
    point = torch.zeros(50, 1, 33, 33)
    point[..., 16, 16] = 1
    seen = augmentation(blur=2.0)(point, range(50))
    torch.testing.assert_close(seen.sum((1, 2, 3)), torch.ones(50), atol=1e-4, rtol=0)
    away = (torch.arange(33) - 16.0) ** 2
    sigmas = ((seen[:, 0].sum(1) * away).sum(1)).sqrt()
    assert sigmas.min() < 0.3 < 1.7 < sigmas.max() <= 2.05


def test_a_blur_larger_than_the_image_is_no_error():
    assert augmentation(blur=10.0)(picture(3, side=8), range(3)).shape == (3, 1, 8, 8)


def test_noise_has_no_mean_and_its_deviation_within_its_limit():
    grey = torch.full((100, 1, 32, 32), 0.5)
    noise = augmentation(noise=0.1)(grey, range(100)) - 0.5
    sigmas = noise.std((1, 2, 3))
    assert sigmas.min() < 0.01 < 0.09 < sigmas.max() <= 0.105
    assert abs(float(noise.mean())) < 1e-3


def test_one_rectangle_is_erased_as_often_as_was_asked():
    white = torch.ones(400, 1, 40, 40)
    seen = augmentation(erase=0.5)(white, range(400))
    shares = (seen == 0).float().mean((1, 2, 3))
    assert 160 < int((shares > 0).sum()) < 240
    assert shares.max() <= 0.34
    assert shares[shares > 0].min() >= 0.015
    for image in seen[shares > 0][:20, 0]:
        rows, columns = (image == 0).any(1), (image == 0).any(0)
        assert int(rows.sum() * columns.sum()) == int((image == 0).sum())


def test_all_slices_of_a_volume_are_changed_alike_and_volumes_by_themselves():
    counts = np.array([3, 1, 4])
    strong = augmentation(**{**ALL_ON, "noise": 0.0})
    changed = strong(picture(1, 3).repeat(8, 1, 1, 1), [0, 1, 2], counts)
    parts = changed.split(counts.tolist())
    assert all(torch.equal(part, part[:1].expand_as(part)) for part in parts)
    assert len({tuple(part[0].flatten().tolist()) for part in parts}) == 3


def test_a_volumes_change_is_the_same_in_whatever_batch():
    slices, counts = picture(8), np.array([3, 1, 4])
    strong = augmentation(**ALL_ON)
    together = strong(slices, [4, 5, 6], counts)
    assert torch.equal(strong(slices[4:], [6], np.array([4])), together[4:])
    assert torch.equal(strong(slices[3:4], [5]), together[3:4])


def test_the_slices_of_a_volume_have_noise_of_their_own_but_of_one_strength():
    grey = torch.full((4, 1, 64, 64), 0.5)
    noise = augmentation(noise=0.2)(grey, [1], np.array([4])) - 0.5
    sigmas = noise.std((1, 2, 3))
    assert float(sigmas.max() / sigmas.min()) < 1.1
    assert not torch.equal(noise[0], noise[1])


def test_contrast_turns_about_the_mean_of_the_volume():
    dark, bright = torch.full((1, 1, 4, 4), 0.3), torch.full((1, 1, 4, 4), 0.7)
    for seed in range(5):
        augment = augmentation(contrast=0.5)
        changed = augment(torch.cat([dark, bright]), [seed], np.array([2]))
        assert float(changed.mean()) == pytest.approx(0.5, abs=1e-6)
        # By itself neither would change, and their difference would stay.
        assert float(changed[1].mean() - changed[0].mean()) != pytest.approx(0.4, abs=1e-3)


def test_volumes_of_one_slice_are_images():
    batch = picture(4)
    augment = augmentation(**ALL_ON)
    one = augment(batch, range(4), np.ones(4, np.int64))
    assert torch.equal(one, augment(batch, range(4)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_changes_images_as_the_processor_does():
    batch, augment = picture(6, 3), augmentation(**ALL_ON)
    there = augment(batch.cuda(), range(6)).cpu()
    torch.testing.assert_close(there, augment(batch, range(6)), atol=1e-3, rtol=0)


def test_views_of_a_study_move_alike_where_they_have_one_seed_of_places():
    change = augmentation(rotate=30.0, shift=0.1, scale=0.2, crop=0.3, flip=True)
    first, second = change(corner(), [1], None, [7]), change(corner(), [2], None, [7])
    assert torch.equal(first, second)
    assert not torch.equal(first, change(corner(), [1], None, [8]))
    # It is the geometry alone: light and noise stay each image's own.
    lit = augmentation(**{**ALL_ON, "erase": 0.0})
    image = picture(side=33)
    assert not torch.equal(lit(image, [1], None, [7]), lit(image, [2], None, [7]))
    dark = augmentation(brightness=0.2, noise=0.1)
    assert torch.equal(dark(image, [1], None, [7]), dark(image, [1], None, [8]))
