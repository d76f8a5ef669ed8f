import pytest
import torch

from mvp.config import AugmentConfig
from mvp.data.augment import Augmentation
from mvp.data.draws import Draws

CONFIG = AugmentConfig(preset="mri")


def images(rows=3, channels=1, side=16):
    return torch.rand(rows, channels, side, side, generator=torch.Generator().manual_seed(1))


def test_the_draws_of_an_image_stand_together_and_the_first_is_the_image_itself():
    batch = images()
    drawn = Draws(CONFIG, 4)(batch, [10, 20, 30])
    assert drawn.shape == (12, 1, 16, 16)
    by_image = drawn.unflatten(0, (3, 4))
    assert torch.equal(by_image[:, 0], batch)
    for own in by_image:
        assert len({tuple(draw.flatten().tolist()) for draw in own}) == 4
    assert 0 <= drawn.min() <= drawn.max() <= 1


def test_one_draw_is_the_image():
    batch = images()
    assert torch.equal(Draws(CONFIG, 1)(batch, [1, 2, 3]), batch)


def test_the_same_pixels_have_the_same_draws_whatever_stands_beside_them():
    batch, draws = images(), Draws(AugmentConfig(), 3, seed=5)
    together = draws(batch, [7, 8, 9]).unflatten(0, (3, 3))
    alone = draws(batch[1:2], [8])
    assert torch.equal(alone, together[1])
    # More draws of the same image begin with the same ones.
    assert torch.equal(Draws(AugmentConfig(), 5, seed=5)(batch[1:2], [8])[:3], alone)


def test_the_images_seed_and_the_seed_of_all_decide():
    one = images(1)
    drawn = [Draws(CONFIG, 2, seed=s)(one, [row]) for s, row in ((0, 1), (0, 2), (1, 1))]
    assert len({tuple(d[1].flatten().tolist()) for d in drawn}) == 3


def test_draws_differ_from_the_changes_of_training_by_the_same_seed():
    one = images(1)
    assert not torch.equal(Draws(CONFIG, 2)(one, [3])[1:], Augmentation(CONFIG)(one, [3]))


def test_neither_the_batch_nor_the_global_generator_is_touched():
    batch, state = images(), torch.get_rng_state()
    before = batch.clone()
    Draws(CONFIG, 3)(batch, [1, 2, 3])
    assert torch.equal(batch, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_digest_tells_apart_what_gives_other_draws():
    draws = [
        Draws(CONFIG, 4),
        Draws(CONFIG, 5),
        Draws(CONFIG, 4, seed=1),
        Draws(AugmentConfig(preset="mri", noise=0.0), 4),
        Draws(AugmentConfig(preset="mri", rotate=14.0), 4),
        Draws(AugmentConfig(), 4),
    ]
    assert len({d.digest for d in draws}) == len(draws)


@pytest.mark.parametrize("preset", ["cxr", "mammo", "mri", "photo"])
def test_the_digest_knows_numbers_and_not_where_they_were_said(preset):
    named = AugmentConfig(preset=preset)
    said = AugmentConfig(preset="none", **named.changes)
    assert Draws(named, 2).digest == Draws(said, 2).digest
    assert Draws(named, 2).digest == Draws(AugmentConfig(preset=preset), 2).digest
