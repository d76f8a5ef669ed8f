import csv
import logging

import numpy as np
import pytest
import torch
from finetuning import INNER, ROWS, TRAIN, Images, data, train, view
from safetensors.torch import load_file

from mvp.config import NetworkConfig
from mvp.errors import ConfigError, DataError, MvpError
from mvp.networks import Network, build, build_view, inference, masked_loss, restore
from mvp.stages.finetune import finetune
from mvp.training.one_view import HeadPhase, NetworkPhase
from mvp.training.source import in_parts, steps_of
from mvp.training.task import Task, look
from mvp.types import Labels, Target


def test_it_learns_and_leaves_its_artefacts(tmp_path):
    state = torch.get_rng_state()
    result = train(tmp_path, view(epochs=6, head_epochs=4, learning_rate=1e-2))
    assert torch.equal(torch.get_rng_state(), state)
    assert result.best_auroc > 0.95
    assert (result.epochs_run, result.resumed_from, result.stopped_early) == (10, None, False)
    assert result.images_seen == ROWS * 7
    assert {p.name for p in tmp_path.iterdir()} == {
        "weights.safetensors",
        "history.csv",
        "curve.png",
    }
    with (tmp_path / "history.csv").open() as stream:
        history = list(csv.DictReader(stream))
    assert list(history[0]) == [
        "phase",
        "epoch",
        "learning_rate",
        "train_loss",
        "inner_loss",
        "inner_auroc",
        "seconds",
        "train_auroc",
        "train_accuracy",
        "auroc_a",
        "auroc_b",
    ]
    assert [(h["phase"], h["epoch"]) for h in history] == [
        *(("head", str(i)) for i in range(1, 5)),
        *(("all", str(i)) for i in range(1, 7)),
    ]
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_heads_features_are_not_kept_while_the_network_is_trained(tmp_path, monkeypatch):
    """They are those of all rows, and would lie in a GPU's memory."""
    heads, seen = [], []

    class Head(HeadPhase):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            heads.append(self)

        def judge(self):
            found = super().judge()
            seen.append(self._seen is not None)
            return found

    class Whole(NetworkPhase):
        def judge(self):
            seen.append(heads[0]._seen is not None)
            return super().judge()

    monkeypatch.setattr("mvp.stages.finetune.HeadPhase", Head)
    monkeypatch.setattr("mvp.stages.finetune.NetworkPhase", Whole)
    train(tmp_path)
    assert seen == [True] * 3 + [False] * 3


def test_the_weights_kept_are_those_of_the_best_epoch(tmp_path):
    result = train(tmp_path, view(epochs=5, monitor="loss"))
    with (tmp_path / "history.csv").open() as stream:
        losses = [float(h["inner_loss"]) for h in csv.DictReader(stream)]
    assert result.best_loss == min(losses)
    assert result.best_epoch == 1 + losses.index(min(losses))
    # The file gives that very loss again.
    network = restore(view().network, 2, tmp_path / "weights.safetensors", view().transform)
    pixels, truth = data()
    values = torch.from_numpy(truth)
    weights = torch.tensor(
        [2.0, float((truth[TRAIN, 1] == 0).sum() / (truth[TRAIN, 1] == 1).sum())]
    )
    with inference(network):
        logits = network.forward(Images(pixels).finish(pixels[INNER], network.channels))
        loss = masked_loss(logits, values[INNER], (Target("a"), Target("b")), weights)
    assert float(loss) == pytest.approx(result.best_loss, rel=1e-4)


def test_the_heads_phase_passes_every_image_once_and_leaves_the_body_alone(tmp_path):
    images = Images(data()[0])
    result = train(tmp_path, view(epochs=0, head_epochs=20), images)
    assert sorted(images.asked) == list(range(ROWS))
    assert result.images_seen == ROWS
    trained = load_file(tmp_path / "weights.safetensors")
    train(tmp_path / "first", view(epochs=0, head_epochs=0))
    first = load_file(tmp_path / "first" / "weights.safetensors")
    changed = {n for n in first if not torch.equal(first[n], trained[n])}
    # Batch norm's statistics are frozen with the rest.
    assert changed == {"fc.weight", "fc.bias"}


def test_the_whole_network_is_trained_afterwards(tmp_path):
    train(tmp_path / "one", view(epochs=0))
    train(tmp_path / "two", view(epochs=2, monitor="loss", learning_rate=1e-2, patience=5))
    one, two = (load_file(tmp_path / n / "weights.safetensors") for n in ("one", "two"))
    assert all(not torch.equal(one[n], two[n]) for n in one)


def test_without_published_weights_the_heads_phase_is_skipped(tmp_path):
    assert train(tmp_path / "a", view(epochs=2, head_epochs=None)).epochs_run == 2
    pixels, _ = data()
    path = tmp_path / "w.pth"
    torch.save(build(NetworkConfig(name="finetuning:net"), None).module.state_dict(), path)
    settings = view(weights=str(path), epochs=2, head_epochs=None)
    assert train(tmp_path / "b", settings, Images(pixels)).epochs_run == 7


def test_the_cached_features_are_those_of_the_live_network(tmp_path):
    network = build(NetworkConfig(name="finetuning:net"), 2)
    pixels, truth = data()
    task = Task(
        view(), network, Images(pixels), Labels((Target("a"), Target("b")), truth), TRAIN, INNER,
        torch.ones(2), 0, torch.device("cpu"),
    )  # fmt: skip
    cached, logits = look(task, TRAIN)
    network.module.eval()
    with torch.no_grad():
        live = network.module(Images(pixels).finish(pixels[TRAIN]))
    torch.testing.assert_close(logits, live, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(network.head(cached), live, rtol=1e-5, atol=1e-5)
    targets, values = task.labels.targets, task.values(TRAIN)
    losses = [masked_loss(x, values, targets, torch.ones(2)) for x in (network.head(cached), live)]
    torch.testing.assert_close(losses[0], losses[1])


def test_patience_ends_it(tmp_path):
    # A learning rate of next to nothing never beats the first epoch's AUROC by more than chance.
    settings = view(epochs=30, head_epochs=0, patience=2, learning_rate=1e-12)
    result = train(tmp_path, settings)
    assert result.stopped_early
    assert result.epochs_run < 30
    assert result.epochs_run == result.best_epoch + 2


def test_the_same_call_gives_the_same_bits_and_another_seed_does_not(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        torch.manual_seed(len(name) + seed)  # the caller's generator has no say
        train(tmp_path / name, seed=seed)
    a, b, c = ((tmp_path / n / "weights.safetensors").read_bytes() for n in "abc")
    assert a == b
    assert a != c


def test_a_single_last_row_joins_the_batch_before(tmp_path):
    seen = []
    source = Images(data()[0])
    order = np.random.default_rng(0).permutation(33)
    steps = steps_of(order, None, 8)
    for rows, batch in zip(steps, in_parts(source, steps, 8), strict=True):
        assert torch.equal(batch, source.pixels[rows])
        seen.append(rows)
    assert [len(rows) for rows in seen] == [8, 8, 8, 9]
    assert np.concatenate(seen).tolist() == order.tolist()
    for rows in range(1, 40):
        got = list(in_parts(source, steps_of(np.arange(rows), None, 8), 8))
        assert sum(len(batch) for batch in got) == rows
        assert rows == 1 or all(1 < len(batch) <= 9 for batch in got)


def test_a_source_that_gives_too_few_images_is_an_error():
    class Short(Images):
        def batches(self, order, size):
            yield from super().batches(order[:-1], size)

    with pytest.raises(MvpError, match="gave 1 of the last 2 inputs"):
        list(in_parts(Short(data()[0]), steps_of(np.arange(10), None, 4), 4))


def test_class_weights_come_from_the_training_rows_alone(tmp_path, monkeypatch):
    asked = []

    def spy(task, epochs):
        asked.append(task)
        raise KeyboardInterrupt

    monkeypatch.setattr("mvp.stages.finetune.HeadPhase", spy)
    _, values = data()
    values = values.copy()
    for inner_value in (0, 1):
        values[INNER] = inner_value
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, values=values)
    first, second = (task.pos_weight for task in asked)
    assert torch.equal(first, second)
    assert float(first[0]) == pytest.approx(22 / 11)


def test_a_label_of_one_class_is_left_out_with_a_warning(tmp_path, caplog):
    _, values = data()
    values = values.copy()
    values[TRAIN, 1] = np.where(np.isnan(values[TRAIN, 1]), np.nan, 0)
    with caplog.at_level(logging.WARNING, "mvp"):
        train(tmp_path / "a", values=values)
    assert "label b has fewer than two classes" in caplog.text
    hidden = values.copy()
    hidden[:, 1] = np.nan
    train(tmp_path / "b", values=hidden)
    a, b = (load_file(tmp_path / n / "weights.safetensors") for n in "ab")
    assert all(torch.equal(a[n], b[n]) for n in a)


def test_labels_of_which_none_can_be_learnt_are_an_error(tmp_path):
    values = np.full((ROWS, 2), np.nan, np.float32)
    with pytest.raises(DataError, match=r"no label can be learnt.*view frontal.*Remedy"):
        train(tmp_path, values=values)
    values[:, 0] = 1
    with pytest.raises(DataError, match="no label can be learnt"):
        train(tmp_path, values=values)
    _, values = data()
    values = values.copy()
    values[INNER] = np.nan
    with pytest.raises(DataError, match="best epoch cannot be chosen"):
        train(tmp_path, values=values)


def test_inner_rows_of_one_class_have_no_auroc_and_fall_back_to_the_loss(tmp_path):
    _, values = data()
    values = values.copy()
    values[INNER] = 0
    result = train(tmp_path, values=values)
    assert result.best_auroc is None
    assert result.best_loss is not None


def test_rows_that_overlap_or_are_missing_are_an_error(tmp_path):
    with pytest.raises(DataError, match="both training and inner"):
        train(tmp_path, inner=np.arange(30, 40))
    with pytest.raises(DataError, match="no inner images"):
        train(tmp_path, inner=np.arange(0))
    with pytest.raises(DataError, match="not distinct rows"):
        train(tmp_path, inner=np.array([40, 40]))


@pytest.mark.parametrize(("phase", "epochs"), [("head", (0, 3)), ("all", (3, 0))])
def test_a_loss_that_is_not_finite_names_the_remedy(tmp_path, phase, epochs):
    pixels, _ = data()
    pixels[5] = float("inf")
    settings = view(epochs=epochs[0], head_epochs=epochs[1])
    with pytest.raises(MvpError, match=rf"epoch 1 of phase '{phase}'.*frontal.*lower training"):
        train(tmp_path, settings, Images(pixels))


def test_probabilities_instead_of_logits_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"stands after it.*plain logits"):
        train(tmp_path, view("finetune_odd:probable"))


def test_several_classes(tmp_path):
    pixels, truth = data()
    values = np.stack([truth[:, 0] + (np.arange(ROWS) % 2)], axis=1).astype(np.float32)
    result = finetune(
        view(epochs=2),
        Images(pixels),
        Labels((Target("kind", ("x", "y", "z")),), values),
        train=TRAIN,
        inner=INNER,
        folder=tmp_path,
        seed=0,
        device=torch.device("cpu"),
        progress=False,
    )
    assert 0 <= result.best_auroc <= 1
    assert load_file(tmp_path / "weights.safetensors")["fc.weight"].shape == (3, 8)


def test_evaluation_mode_comes_back_after_an_exception(tmp_path, monkeypatch):
    made = []

    def spy(view, outputs):
        made.append(build_view(view, outputs))
        return made[-1]

    class Failing(Images):
        def batches(self, order, size):
            yield from super().batches(order[:8], size)
            raise OSError("the disk is gone")

    monkeypatch.setattr("mvp.training.result.build_view", spy)
    with pytest.raises(OSError, match="disk"):
        train(tmp_path, view(head_epochs=0), Failing(data()[0]))
    assert isinstance(made[0], Network)
    assert not any(m.training for m in made[0].module.modules())


def test_bars_go_to_stderr(tmp_path, capsys):
    train(tmp_path, view(epochs=1, head_epochs=1), progress=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert "frontal head" in said.err
    assert "auroc=" in said.err
