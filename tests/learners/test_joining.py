"""HeMIS, the convolution over stacked maps, and attention over instances: what each is for."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from made_tasks import one_slice, plain_in_lateral, same_height, without

from mvp.errors import ConfigError
from mvp.features import table_from_arrays
from mvp.learners import Head
from mvp.learners.attention import BagNet, GatedAttention
from mvp.learners.auxiliary import AuxiliaryNet
from mvp.learners.hemis import mean_and_variance
from mvp.learners.spatial import SpatialLearner, SpatialNet
from mvp.statistics import PatientBootstrap, auroc
from mvp.types import Labels, Target

QUICK = {"epochs": 2, "hidden": 8}


def test_mean_and_variance_are_over_the_views_present() -> None:
    embedded = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    presence = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]]).bool()
    both = mean_and_variance(embedded, presence)
    for row in range(2):
        there = embedded[row][presence[row]]
        wanted = torch.cat([there.mean(dim=0), there.var(dim=0)])
        torch.testing.assert_close(both[row], wanted)
    torch.testing.assert_close(both[2], torch.cat([embedded[2, 1], torch.zeros(5)]))
    assert (both[3] == 0).all()


def net_of(over: str, widths: tuple[int, ...] = (4,)) -> BagNet:
    torch.manual_seed(0)
    return BagNet(widths, 1, over=over, units=3, hidden=4, layers=1, dropout=0.0).eval()


def test_weights_of_a_bag_sum_to_one_and_follow_the_gate() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        gated = GatedAttention(4, 3)
    values, counts = torch.randn(9, 4), torch.tensor([3, 0, 1, 5])
    weights = gated(values, counts)
    sums = [part.sum().item() for part in weights.split(counts.tolist())]
    np.testing.assert_allclose(sums, [1, 0, 1, 1], atol=1e-6)
    scores = gated.score(
        torch.tanh(gated.content(values[:3])) * torch.sigmoid(gated.gate(values[:3]))
    )
    torch.testing.assert_close(weights[:3], scores.squeeze(1).softmax(dim=0))
    # Large scores must not overflow.
    with torch.no_grad():
        gated.score.weight *= 1e6
    assert gated(values, counts).isfinite().all()


@pytest.mark.parametrize("over", ["attention", "max", "mean"])
def test_a_bag_of_one_is_its_instance_and_order_within_a_bag_is_nothing(over: str) -> None:
    with torch.random.fork_rng():
        net = net_of(over)
        values = torch.randn(6, 4)
    one = net._pooled(0, values, torch.ones(6, dtype=torch.int64))
    torch.testing.assert_close(one, values)
    counts = torch.tensor([4, 2])
    turned = values[[3, 1, 0, 2, 5, 4]]
    torch.testing.assert_close(net._pooled(0, values, counts), net._pooled(0, turned, counts))
    if over != "attention":
        how = torch.amax if over == "max" else torch.mean
        torch.testing.assert_close(net._pooled(0, values, counts)[0], how(values[:4], dim=0))


def test_attention_sees_what_the_mean_of_instances_hides() -> None:
    rng = np.random.default_rng(0)
    bags = [rng.normal(size=(n, 3)).astype(np.float32) for n in (3, 5, 1, 4, 2, 6)]
    labels = Labels((Target("x"),), np.array([[0], [1], [0], [1], [0], [1]], np.float32))
    ids = [str(i) for i in range(6)]
    table = table_from_arrays(ids, {"axial": bags})
    head = Head.fit("attention", QUICK, table, labels, seed=0)
    averaged = table_from_arrays(ids, {"axial": [b.mean(axis=0, keepdims=True) for b in bags]})
    assert not np.allclose(head.predict(table), head.predict(averaged))
    np.testing.assert_allclose(table.matrix(), averaged.matrix(), atol=1e-6)


def test_bags_of_one_everywhere_are_said_aloud(caplog) -> None:
    table, labels = plain_in_lateral(20, 0, width=3)
    with caplog.at_level(logging.WARNING, logger="mvp"):
        Head.fit("attention", QUICK, table, labels, seed=0)
    assert "no study has more than one instance" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="mvp"):
        Head.fit("attention", QUICK, *one_slice(20, 0, width=3), seed=0)
    assert not caplog.text


def test_unknown_aggregation_is_refused() -> None:
    with pytest.raises(ConfigError, match="over is 'median', expected one of attention, max, mean"):
        Head.fit("attention", {"over": "median"}, *one_slice(20, 0, width=3), seed=0)


def test_spatial_names_the_view_and_the_setting() -> None:
    table, labels = plain_in_lateral(20, 0, width=6)
    with pytest.raises(ConfigError, match=r"lateral \(6,\)") as caught:
        Head.fit("spatial", {}, table, labels, seed=0)
    assert 'network.pooling = "rows"' in str(caught.value)
    blocks = {view: table.block(view) for view in table.views}
    shapes = {"frontal": (2, 3), "lateral": (3, 2)}
    other = table_from_arrays(list(table.studies), blocks, shapes=shapes)
    with pytest.raises(ConfigError, match=r"frontal \(2, 3\), lateral \(3, 2\)"):
        Head.fit("spatial", {}, other, labels, seed=0)
    with pytest.raises(ConfigError, match="kernel is 2, expected an odd"):
        Head.fit("spatial", {"kernel": 2}, *same_height(20, 0), seed=0)


def test_spatial_refuses_maps_of_another_form_than_it_was_fitted_on() -> None:
    table, labels = same_height(20, 0, channels=2, positions=3)
    head = Head.fit("spatial", QUICK, table, labels, seed=0)
    blocks = {view: table.block(view) for view in table.views}
    turned = table_from_arrays(
        list(table.studies), blocks, shapes=dict.fromkeys(table.views, (3, 2))
    )
    with pytest.raises(ConfigError, match=r"\[3, 2\].*fit-head|fitted on features of the form"):
        head.predict(turned)


def test_spatial_stacks_channels_positions_and_views_as_they_were_stored() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = SpatialNet(2, 5, 2, 1, filters=3, kernel=3, hidden=4, layers=0, dropout=0.0).eval()
    maps = np.random.default_rng(0).normal(size=(1, 2, 2, 5)).astype(np.float32)  # view, channel
    seen = {}
    net.conv.register_forward_hook(lambda _, given, __: seen.update(x=given[0]))
    net(torch.from_numpy(maps.reshape(1, -1)), torch.ones(1, 2, dtype=torch.bool))
    assert tuple(seen["x"].shape) == (1, 2, 5, 2)
    np.testing.assert_array_equal(seen["x"][0].detach().numpy(), maps[0].transpose(1, 2, 0))
    # What moves up by one position in both views is the same thing elsewhere.
    inner = np.zeros_like(maps)
    inner[..., 1:3] = maps[..., 1:3]
    moved = np.roll(inner, 1, axis=3)
    there = torch.ones(1, 2, dtype=torch.bool)
    one, two = (net(torch.from_numpy(m.reshape(1, -1)), there) for m in (inner, moved))
    torch.testing.assert_close(one, two)


def test_spatial_standardises_by_channel() -> None:
    table, _ = same_height(50, 0, channels=3, positions=4)
    scaler = SpatialLearner().standardiser(table)
    maps = table.block("lateral").reshape(50, 3, 4)
    mean, std = (part.reshape(2, 3, 4)[1] for part in (scaler.mean, scaler.std))
    np.testing.assert_allclose(mean, np.repeat(maps.mean(axis=(0, 2))[:, None], 4, 1), rtol=1e-4)
    np.testing.assert_allclose(std, np.repeat(maps.std(axis=(0, 2))[:, None], 4, 1), rtol=1e-4)


def compared(task, heads: dict[str, tuple[str, dict]], drop: str | None = None) -> None:
    """Every seed: the first head's AUROC lies above each other's, with its interval."""
    for seed in (1, 2, 3):
        train, held, (table, labels) = (
            task(rows, 10 * seed + k) for k, rows in enumerate((600, 200, 1000))
        )
        table = table if drop is None else without(table, drop)
        scores = [
            Head.fit(name, options, *train, validation=held, seed=seed).predict(table)[:, 0]
            for name, options in heads.values()
        ]
        bootstrap = PatientBootstrap(table.groups, draws=500, seed=0)
        for score in scores[1:]:
            gain = bootstrap.paired_difference(labels.values[:, 0], scores[0], score)
            assert gain.low > 0, (seed, gain)


@pytest.mark.slow
def test_stacked_maps_see_that_heights_agree_where_a_flat_vector_does_not() -> None:
    compared(same_height, {"spatial": ("spatial", {}), "flat": ("mlp", {})})


@pytest.mark.slow
def test_attention_finds_one_slice_among_thirty_better_than_max_and_mean() -> None:
    heads = {over: ("attention", {"over": over}) for over in ("attention", "max", "mean")}
    compared(one_slice, heads)


@pytest.mark.slow
def test_view_dropout_narrows_the_loss_without_the_better_view() -> None:
    heads = {str(p): ("mlp", {"view_dropout": p}) for p in (0.3, 0.0)}
    compared(plain_in_lateral, heads, drop="lateral")


def test_auxiliary_sends_whole_studies_through_the_joint_head_and_others_through_their_own() -> (
    None
):
    torch.manual_seed(0)
    net = AuxiliaryNet([3, 2], 2, weight=0.3, hidden=4, layers=1, dropout=0.0).eval()
    features = torch.randn(4, 5)
    presence = torch.tensor([[1, 1], [1, 0], [0, 1], [1, 1]]).bool()
    said = net(features, presence)
    torch.testing.assert_close(said[[0, 3]], net.joint(features, presence)[[0, 3]])
    torch.testing.assert_close(said[1], net.own[0](features[1, :3]))
    torch.testing.assert_close(said[2], net.own[1](features[2, 3:]))
    terms = list(net.terms(features, presence))
    assert [term.weight for term in terms] == [1.0, 0.3, 0.3]
    assert [term.rows.tolist() for term in terms] == [
        [True, False, False, True],
        [True, True, False, True],
        [True, False, True, True],
    ]
    three = AuxiliaryNet([1, 1, 1], 1, weight=0.3, hidden=4, layers=0, dropout=0.0).eval()
    x, two = torch.randn(1, 3), torch.tensor([[True, False, True]])
    mean = (three.own[0](x[:, :1]) + three.own[2](x[:, 2:])) / 2
    torch.testing.assert_close(three(x, two), mean)


def test_auxiliary_heads_learn_from_whole_studies_too() -> None:
    table, labels = plain_in_lateral(200, 0, width=4)
    options = {"epochs": 60, "hidden": 8, "view_dropout": 0.0, "device": "cpu"}
    fitted = Head.fit("auxiliary", options, table, labels, seed=0)
    alone = without(table, "frontal")
    areas = [auroc(labels.values[:, 0], fitted.predict(t)[:, 0]) for t in (table, alone)]
    assert min(areas) > 0.9
    # Without their losses nothing has taught them.
    blind = Head.fit("auxiliary", {**options, "weight": 0.0}, table, labels, seed=0)
    before = fitted.learner.fitted.net.own[1].weight
    assert blind.learner.fitted.net.own[1].weight.abs().sum() < before.abs().sum()
    with pytest.raises(ConfigError, match="weight"):
        Head.fit("auxiliary", {"weight": -1.0}, table, labels, seed=0)


def test_maps_are_stacked_as_they_were_stored_and_standardised_by_channel() -> None:
    rng = np.random.default_rng(0)
    blocks = {view: rng.normal(3, 2, (30, 2 * 4 * 3)).astype(np.float32) for view in ("a", "b")}
    labels = Labels((Target("x"),), (np.arange(30) % 2).astype(np.float32)[:, None])
    ids = [str(i) for i in range(30)]
    table = table_from_arrays(ids, blocks, shapes=dict.fromkeys(blocks, (2, 4, 3)))
    head = Head.fit("maps", {**QUICK, "filters": 3}, table, labels, seed=0)
    net, scaler = head.learner.fitted.net, head.learner.fitted.scaler
    seen = []
    net.conv.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    head.predict(table)
    first = (blocks["a"][0] - scaler.mean[:24]) / scaler.std[:24]
    np.testing.assert_allclose(seen[0][0, :2].numpy().ravel(), first, atol=1e-5)
    assert len(np.unique(scaler.mean[:12])) == len(np.unique(scaler.std[12:24])) == 1
    flat = table_from_arrays(ids, blocks)
    with pytest.raises(ConfigError, match=r'network.pooling = "map"'):
        Head.fit("maps", QUICK, flat, labels, seed=0)


def where_they_meet(rows: int, seed: int):
    """A blob in a map of each view, in a random place: at the same one?"""
    rng = np.random.default_rng(seed)
    same, side, blocks = rng.random(rows) < 0.5, 5, {}
    places = rng.integers(0, side * side, rows)
    others = (places + rng.integers(1, side * side, rows)) % (side * side)
    for view, at in (("a", places), ("b", np.where(same, places, others))):
        maps = rng.normal(size=(rows, 8, side * side))
        maps[np.arange(rows), :, at] += 3.0
        blocks[view] = maps.reshape(rows, -1).astype(np.float32)
    ids = [f"{seed}-{i}" for i in range(rows)]
    table = table_from_arrays(ids, blocks, shapes=dict.fromkeys(blocks, (8, side, side)))
    return table, Labels((Target("x"),), same.astype(np.float32)[:, None])


@pytest.mark.slow
def test_maps_see_whether_two_things_stand_at_one_place() -> None:
    compared(where_they_meet, {"maps": ("maps", {}), "flat": ("mlp", {})})
