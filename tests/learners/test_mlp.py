from __future__ import annotations

import numpy as np
import pytest
import torch
from two_views import binary, two_views

from mvp.errors import ConfigError
from mvp.features import table_from_arrays
from mvp.learners import Head
from mvp.learners.fusion_net import FusionNet, drop_views, masked_loss
from mvp.learners.standardise import Standardiser
from mvp.learners.torch_rows import shuffled_batches
from mvp.statistics import auroc
from mvp.types import Labels, Target

QUICK = {"epochs": 15, "hidden": 16}


def xor(bits: np.ndarray) -> np.ndarray:
    return bits[:, 0] ^ bits[:, 1]


@pytest.mark.parametrize("width", [128, 512])
def test_learns_what_no_single_view_holds(width: int) -> None:
    (table, bits), (held, held_bits), (test, test_bits) = (
        two_views(rows, width, seed) for rows, seed in ((250, 1), (80, 2), (600, 3))
    )
    validation = held, binary(xor(held_bits), "xor")
    head = Head.fit("mlp", {}, table, binary(xor(bits), "xor"), validation=validation, seed=0)
    score = head.predict(test)[:, 0]
    assert auroc(xor(test_bits), score) > 0.9
    gone = {v: np.full((600, width), np.nan, np.float32) for v in test.views[:1]}
    lone = table_from_arrays(list(test.studies), {**gone, "lateral": test.block("lateral")})
    assert 0.4 < auroc(xor(test_bits), head.predict(lone)[:, 0]) < 0.6


@pytest.mark.parametrize("rows", [3, 9, 65])
def test_a_last_batch_of_one_row_breaks_nothing(rows: int) -> None:
    table, bits = two_views(rows, 4, 0)
    bits[:2, 0] = [0, 1]
    head = Head.fit("mlp", {**QUICK, "batch_size": 2}, table, binary(bits[:, 0], "x"), seed=0)
    assert np.isfinite(head.predict(table)).all()
    sizes = [len(batch) for batch in shuffled_batches(rows, 2, torch.Generator())]
    assert sum(sizes) == rows
    assert min(sizes) >= 2


def test_unknown_labels_add_nothing_to_the_loss() -> None:
    targets = (Target("a"), Target("g", ("x", "y", "z")))
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    values = torch.tensor([[0, 1], [1, 2], [1, 0], [0, 1], [1, 2], [0, 0]], dtype=torch.float32)
    values[3:, 0] = torch.nan
    values[:2, 1] = torch.nan
    fraction = torch.tensor([3 / 6, 4 / 6])
    loss = masked_loss(logits, values, targets, fraction)
    loss.backward()
    assert (logits.grad[3:, 0] == 0).all()
    assert (logits.grad[:2, 1:] == 0).all()
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits[:3, 0], values[:3, 0])
    ce = torch.nn.functional.cross_entropy(logits[2:, 1:], values[2:, 1].long())
    assert torch.isclose(loss, (bce + ce) / 2)


def test_rarely_known_label_counts_as_much_as_a_complete_one() -> None:
    targets = (Target("complete"), Target("rare"))
    logits, values = torch.zeros(100, 2, requires_grad=True), torch.zeros(100, 2)
    values[5:, 1] = torch.nan
    fraction = (~values.isnan()).float().mean(dim=0)
    masked_loss(logits, values, targets, fraction).backward()
    assert torch.isclose(logits.grad[:, 0].sum(), logits.grad[:, 1].sum())


def test_view_dropout_never_takes_the_last_view() -> None:
    presence = torch.rand(4000, 3, generator=torch.Generator().manual_seed(1)) < 0.5
    shown = drop_views(presence, 0.9, torch.Generator().manual_seed(2))
    assert not (shown & ~presence).any()
    assert (shown.any(dim=1) == presence.any(dim=1)).all()
    everything = torch.ones(6000, 3, dtype=torch.bool)
    kept = drop_views(everything, 0.999, torch.Generator().manual_seed(3)).float().mean(dim=0)
    assert torch.allclose(kept, torch.full((3,), 1 / 3), atol=0.03)
    assert (drop_views(presence, 0.0, torch.Generator()) == presence).all()


def test_missing_view_is_a_learned_token() -> None:
    net = FusionNet([2, 1], 1, hidden=4, layers=1, dropout=0.0).eval()
    with torch.no_grad():
        net.token[:] = torch.tensor([1.0, 2.0, 3.0])
    present = net(torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[True, True]]))
    absent = net(torch.tensor([[0.0, 0.0, 9.0]]), torch.tensor([[False, True]]))
    assert torch.equal(present, absent)


def test_tokens_are_trained(studies) -> None:
    table, labels, _ = studies
    head = Head.fit("mlp", QUICK, table, labels, seed=0)
    assert (head.learner._net.token != 0).any()


def test_standardisation_sees_training_rows_with_the_view_alone() -> None:
    first = np.array([[1, 5], [3, 5], [np.nan, np.nan]], np.float32)
    table = table_from_arrays(["a", "b", "c"], {"v": first, "w": np.ones((3, 1), np.float32)})
    scaler = Standardiser.fit(table)
    assert scaler.mean.tolist() == [2, 5, 1]
    assert scaler.std.tolist() == [1, 1, 1]
    assert scaler.transform(table.matrix())[2].tolist() == [0, 0, 0]
    never = table_from_arrays(["a"], {"v": np.full((1, 2), np.nan, np.float32)})
    assert Standardiser.fit(never).std.tolist() == [1, 1]


def test_early_stopping_keeps_the_best_epoch() -> None:
    table, bits = two_views(60, 64, 0, signal=0.0)
    held, held_bits = two_views(60, 64, 1, signal=0.0)
    labels, validation = binary(bits[:, 0], "x"), (held, binary(held_bits[:, 0], "x"))

    def loss(options: dict, validation) -> float:
        head = Head.fit("mlp", options, table, labels, validation=validation, seed=0)
        p = head.predict(held)[:, 0].clip(1e-6, 1 - 1e-6)
        return float(-np.log(np.where(held_bits[:, 0], p, 1 - p)).mean())

    options = {"hidden": 32, "epochs": 60, "patience": 5, "dropout": 0.0}
    stopped = loss(options, validation)
    assert stopped < loss(options, None)
    # The best epoch's weights are kept, however long one waits after it.
    assert stopped >= loss({**options, "patience": 60}, validation)


def test_seed_decides_everything(studies) -> None:
    table, labels, validation = studies
    torch.manual_seed(1)
    one = Head.fit("mlp", QUICK, table, labels, validation=validation, seed=3).predict(table)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    two = Head.fit("mlp", QUICK, table, labels, validation=validation, seed=3).predict(table)
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(one, two)
    other = Head.fit("mlp", QUICK, table, labels, validation=validation, seed=4).predict(table)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    "option",
    [
        {"dropout": 1.0},
        {"view_dropout": -0.1},
        {"batch_size": 1},
        {"layers": "two"},
        {"hidden": 0},
        {"lr": "fast"},
        {"device": "quantum"},
        {"epochs": 2.5},
    ],
)
def test_wrong_options_are_named(studies, option: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(option))):
        Head.fit("mlp", option, studies[0], studies[1], seed=0)


def test_head_of_a_gpu_loads_without_one(studies, tmp_path, monkeypatch) -> None:
    head = Head.fit("mlp", {**QUICK, "device": "cpu"}, studies[0], studies[1], seed=0)
    head.learner.device = "cuda"
    head.save(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert np.array_equal(Head.load(tmp_path).predict(studies[0]), head.predict(studies[0]))


def test_validation_labels_without_the_label_do_not_stop_it(studies) -> None:
    table, labels, (held, held_labels) = studies
    values = held_labels.values.copy()
    values[:, 0] = np.nan
    head = Head.fit(
        "mlp", QUICK, table, labels, validation=(held, Labels(labels.targets, values)), seed=0
    )
    assert np.isfinite(head.predict(held)).all()
