"""Fine-tuning on volumes: one loss, one vector before the classifier, for each volume."""

import numpy as np
import pytest
import torch
from finetuning import INNER, ROWS, SIZE, TRAIN, Images, train, view
from safetensors.torch import load_file

from mvp.config import NetworkConfig
from mvp.errors import MvpError
from mvp.networks import build
from mvp.networks.bags import forward_bags
from mvp.training import one_view
from mvp.training.loop import Loop
from mvp.training.one_view import HeadPhase, NetworkPhase
from mvp.training.source import in_parts, rows_per_batch, steps_of
from mvp.training.task import Task, look
from mvp.types import Labels, Target


class Volumes(Images):
    """Volumes in memory: 1 to 9 slices, of which one is bright where the label holds."""

    def __init__(self, seed=0, batches_left=None, counts=None):
        chance = np.random.default_rng(seed)
        self.counts = chance.integers(1, 10, ROWS) if counts is None else np.asarray(counts)
        self.truth = (np.arange(ROWS) % 3 == 0).astype(np.float32)
        self.starts = np.cumsum([0, *self.counts])
        pixels = chance.random((int(self.starts[-1]), 1, SIZE, SIZE), dtype=np.float32) * 0.4
        for row in np.flatnonzero(self.truth):
            pixels[self.starts[row] + chance.integers(self.counts[row]), :, 5:10, 5:10] += 0.5
        super().__init__(torch.from_numpy(pixels))
        self.sizes, self.left = [], batches_left

    @property
    def values(self):
        return np.stack([self.truth, self.truth], axis=1)

    def slices(self, rows):
        return [s for row in rows for s in range(self.starts[row], self.starts[row + 1])]

    def batches(self, order, size):
        self.asked.extend(np.asarray(order).tolist())
        for part in self.pixels[self.slices(order)].split(size):
            if self.left is not None:
                if not self.left:
                    raise KeyboardInterrupt
                self.left -= 1
            self.sizes.append(len(part))
            yield part


def task(source, **settings):
    torch.manual_seed(0)
    return Task(
        view(**settings),
        build(NetworkConfig(name="finetuning:net"), 2),
        source,
        Labels((Target("a"), Target("b")), source.values),
        TRAIN,
        INNER,
        torch.ones(2),
        0,
        torch.device("cpu"),
    )


@pytest.fixture(autouse=True)
def without_curve(monkeypatch):
    monkeypatch.setattr("mvp.training.session.draw_curve", lambda *arguments: None)


def test_it_learns_what_one_slice_shows(tmp_path):
    source = Volumes()
    settings = view(epochs=6, head_epochs=2, batch_size=24, learning_rate=1e-2)
    result = train(tmp_path, settings, source, source.values)
    assert result.best_auroc > 0.95
    # Once for the head's features, then in every epoch; a slice counts as an image.
    assert result.images_seen == 7 * int(source.counts.sum())


def test_a_batch_holds_whole_volumes_and_a_loss_for_each(tmp_path, monkeypatch):
    seen = []
    loss = one_view.summed_loss

    def spy(logits, values, *rest):
        seen.append(len(logits))
        assert len(logits) == len(values)
        return loss(logits, values, *rest)

    monkeypatch.setattr(one_view, "summed_loss", spy)
    source = Volumes()
    train(tmp_path, view(epochs=2, head_epochs=0, batch_size=16), source, source.values)
    assert sum(seen) == 2 * len(TRAIN)


@pytest.mark.parametrize("size", [2, 5, 9, 16, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_no_volume_is_divided_or_left_out_and_no_batch_is_one_slice(size, seed):
    source = Volumes(seed, counts=np.random.default_rng(seed).choice([1, 1, 2, 7, 30], ROWS))
    order = np.random.default_rng(seed).permutation(ROWS)
    steps = steps_of(order, source.counts, size)
    assert np.concatenate(steps).tolist() == order.tolist()
    assert [len(rows) for rows in steps] == rows_per_batch(source.counts[order], size)
    for rows, batch in zip(steps, in_parts(source, steps, size), strict=True):
        assert torch.equal(batch, source.pixels[source.slices(rows)])
        assert len(batch) > 1
        single = 1 in source.counts[rows]
        assert len(batch) <= size + single or len(rows) == 1 + single
    assert max(source.sizes) <= size


def test_batches_are_as_full_as_they_can_be():
    counts = np.array([3, 3, 3, 9, 20, 1, 1, 8, 9, 1])
    # 3+3+3 | 9 would be too much; 20 goes alone; the single last slice joins 9.
    assert rows_per_batch(counts, 10) == [3, 1, 1, 3, 2]
    assert rows_per_batch(np.array([1, 10, 10, 1]), 10) == [2, 2]
    assert rows_per_batch(np.array([1]), 10) == [1]


def test_a_look_passes_no_more_than_a_batch_however_deep_the_volume(monkeypatch):
    source = Volumes(counts=[1000, *[1] * (ROWS - 1)])
    asked = task(source, batch_size=8)
    passed = []
    forward = type(asked.network).forward
    monkeypatch.setattr(
        type(asked.network), "forward", lambda self, x: (passed.append(len(x)), forward(self, x))[1]
    )
    features, logits = look(asked, np.arange(2))
    assert max(passed) == 8
    assert sum(passed) == 1001
    assert features.shape == (2, 8)
    assert logits.shape == (2, 2)


@pytest.mark.parametrize("how", ["max", "mean"])
def test_what_is_looked_at_is_what_training_sees(how):
    source = Volumes()
    asked = task(source, slices=how, batch_size=7)
    rows = np.array([5, 0, 17, 33, 2])
    features, logits = look(asked, rows)
    asked.network.module.eval()
    inputs = asked.to_network(source.pixels[source.slices(rows)])
    with torch.no_grad():
        live = forward_bags(asked.network, inputs, source.counts[rows], how)
        torch.testing.assert_close(asked.network.head(features), live, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits, live, rtol=1e-5, atol=1e-5)


def test_max_and_mean_train_other_networks(tmp_path):
    source = Volumes()
    for how in ("max", "mean"):
        train(tmp_path / how, view(epochs=1, head_epochs=1, slices=how), source, source.values)
    one, two = (load_file(tmp_path / n / "weights.safetensors") for n in ("max", "mean"))
    assert not torch.equal(one["fc.weight"], two["fc.weight"])


def test_volumes_of_one_slice_learn_as_images_do(tmp_path):
    source = Volumes(counts=np.ones(ROWS, int))
    plain = Images(source.pixels)
    plain.values = source.values
    bags, images = task(source, batch_size=8), task(plain, batch_size=8)
    torch.testing.assert_close(look(bags, TRAIN), look(images, TRAIN))
    one = [rows.tolist() for rows in steps_of(TRAIN, source.counts, 8)]
    assert one == [rows.tolist() for rows in steps_of(TRAIN, None, 8)]


@pytest.mark.parametrize(("more", "said"), [(-1, "of the last"), (1, "more inputs than it says")])
def test_a_source_that_gives_other_slices_than_it_says_is_an_error(more, said):
    class Lying(Volumes):
        def slices(self, rows):
            taken = super().slices(rows)
            return taken[:more] if more < 0 else [*taken, 0]

    with pytest.raises(MvpError, match=said):
        list(in_parts(Lying(), steps_of(np.arange(10), Lying().counts, 8), 8))
    with pytest.raises(MvpError, match="bags"):
        look(task(Lying()), np.arange(10))


SETTINGS = {"epochs": 3, "head_epochs": 2, "batch_size": 16}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mvp.training.session.draw_curve", lambda *arguments: None)
        source = Volumes()
        train(folder, view(**SETTINGS), source, source.values)
    return (folder / "weights.safetensors").read_bytes(), len(source.sizes)


@pytest.mark.parametrize("share", [0.3, 0.55, 0.8, 0.95])
def test_an_interrupted_training_ends_with_the_same_bits(tmp_path, whole, share):
    weights, batches = whole
    stopping = Volumes(batches_left=int(batches * share))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, view(**SETTINGS), stopping, stopping.values)
    result = train(tmp_path, view(**SETTINGS), Volumes(), stopping.values)
    assert result.resumed_from
    assert (tmp_path / "weights.safetensors").read_bytes() == weights


def test_the_rate_falls_to_its_end_though_epochs_have_several_numbers_of_batches(tmp_path):
    source = Volumes()
    asked = task(source, batch_size=12, epochs=8)
    whole = NetworkPhase(asked, 8)
    assert len({len(whole.steps(epoch)) for epoch in range(8)}) > 1
    run = Loop("knee", asked.view.training, 0, asked.device, None, lambda state: None, False)
    run.run(HeadPhase(asked, 0), whole)
    assert run.progress.history[-1].learning_rate == pytest.approx(1e-3 / 1e4)


def test_other_counts_or_another_reduction_start_over(tmp_path, caplog):
    for name, changed, settings in (
        ("counts", np.full(ROWS, 4), SETTINGS),
        ("how", None, {**SETTINGS, "slices": "mean"}),
    ):
        stopping = Volumes(batches_left=40)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / name, view(**SETTINGS), stopping, stopping.values)
        other = Volumes(counts=changed)
        caplog.clear()
        result = train(tmp_path / name, view(**settings), other, stopping.values)
        assert result.resumed_from is None
        assert "starting over" in caplog.text


def test_the_reduction_is_no_reason_to_start_single_images_over(tmp_path):
    from test_finetune_resume import interrupt

    interrupt(tmp_path, 14)
    assert train(tmp_path, view(slices="mean")).resumed_from == 4
