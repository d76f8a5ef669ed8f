"""What the torch learners have in common."""

from __future__ import annotations

import json
import re
import weakref

import numpy as np
import pytest
import torch
from made_tasks import one_slice, plain_in_lateral, same_height

from mvp.errors import ConfigError
from mvp.features import FeatureTable, InstanceBlock, table_from_arrays
from mvp.features.block import ArrayBlock
from mvp.learners import Head, make_learner
from mvp.learners.contract import synthetic_studies
from mvp.learners.torch_rows import BagReader, Feed
from mvp.statistics import auroc
from mvp.types import Labels, Target

QUICK = {"epochs": 8, "hidden": 16, "device": "cpu"}
TORCH = ("mlp", "hemis", "attention", "spatial", "auxiliary", "maps")
MAPS = {"spatial": True, "maps": (2, 3, 1)}


def studies_for(name: str) -> tuple[FeatureTable, Labels]:
    return synthetic_studies(maps=MAPS.get(name, False))[:2]


@pytest.mark.parametrize("name", TORCH)
def test_saved_is_loaded_bit_for_bit(tmp_path, name: str) -> None:
    table, labels = studies_for(name)
    head = Head.fit(name, QUICK, table, labels, seed=0)
    head.save(tmp_path)
    assert np.array_equal(Head.load(tmp_path).predict(table), head.predict(table))
    stored = json.loads((tmp_path / "learner" / f"{name}.json").read_text())
    assert stored["options"]["memory_limit"] == 4.0


@pytest.mark.parametrize("name", TORCH)
def test_order_of_views_does_not_matter_afterwards(name: str) -> None:
    table, labels = studies_for(name)
    head = Head.fit(name, QUICK, table, labels, seed=0)
    turned = table.only(table.views[::-1])
    assert np.array_equal(head.predict(turned), head.predict(table))


@pytest.mark.parametrize("name", TORCH)
def test_numbers_of_a_missing_view_are_never_seen(name: str) -> None:
    table, labels = studies_for(name)
    learner = Head.fit(name, QUICK, table, labels, seed=0).learner
    reader = learner.reader(learner._scaler)
    rows = reader.read(table)
    inputs = rows.take(torch.arange(len(table)))
    hidden = rows.presence.clone()
    hidden[:, 1] = False
    other = (
        [(v + 5 * (i == 1), c) for i, (v, c) in enumerate(inputs)]
        if name == "attention"
        else (
            torch.cat(
                [
                    inputs[:, : table.signature.widths[0]],
                    inputs[:, table.signature.widths[0] :] + 5,
                ],
                dim=1,
            )
        )
    )
    with torch.inference_mode():
        assert torch.equal(learner._net(inputs, hidden), learner._net(other, hidden))
        assert not torch.equal(learner._net(inputs, rows.presence), learner._net(inputs, hidden))


@pytest.mark.parametrize(("name", "token"), [("spatial", "token"), ("attention", "joined.token")])
def test_learned_tokens_are_trained(name: str, token: str) -> None:
    head = Head.fit(name, QUICK, *studies_for(name), seed=0)
    assert (head.learner._net.get_parameter(token) != 0).all()


@pytest.mark.parametrize("name", TORCH)
def test_wrong_options_are_refused_by_name(name: str) -> None:
    wrong = {"memory_limit": -1, "epochs": True, "view_dropout": 1.0, "lr": True}
    for option, value in wrong.items():
        with pytest.raises(ConfigError, match=option):
            Head.fit(name, {option: value}, *studies_for(name), seed=0)


class CountingBlock(ArrayBlock):
    """Says how many rows were ever read at a time."""

    most = 0

    def read(self, rows, draws=None):
        CountingBlock.most = max(CountingBlock.most, len(rows))
        return super().read(rows, draws)


def counted(table: FeatureTable, monkeypatch: pytest.MonkeyPatch) -> FeatureTable:
    monkeypatch.setattr(CountingBlock, "most", 0)
    blocks = {view: CountingBlock(table.block(view)) for view in table.views}
    return FeatureTable(table.studies, table.groups, blocks, table.presence, table.keys)


def test_streamed_fit_is_as_good_and_holds_half_of_the_limit(monkeypatch) -> None:
    table, labels = plain_in_lateral(640, 1)
    test, test_labels = plain_in_lateral(400, 2)
    options = {"hidden": 16, "epochs": 4, "batch_size": 16}
    held = Head.fit("mlp", options, table, labels, seed=0).predict(test)[:, 0]
    bytes_of_all = table.matrix().nbytes
    monkeypatch.setattr("mvp.features.table._BATCH_ROWS", 32)
    options["memory_limit"] = bytes_of_all / 4 / 1e9
    table = counted(table, monkeypatch)
    streamed = Head.fit("mlp", options, table, labels, seed=0).predict(test)[:, 0]
    assert CountingBlock.most <= 640 / 4 / 2
    truth = test_labels.values[:, 0]
    assert auroc(truth, streamed) > auroc(truth, held) - 0.01 > 0.95
    assert not np.array_equal(streamed, held)
    again = Head.fit("mlp", options, table, labels, seed=0).predict(test)[:, 0]
    assert np.array_equal(streamed, again)


def test_streamed_validation_stops_at_the_same_loss() -> None:
    table, labels = plain_in_lateral(300, 1)
    validation = plain_in_lateral(200, 2)
    options = {"hidden": 8, "epochs": 10, "patience": 2, "batch_size": 16}
    both = table.matrix().nbytes
    heads = [
        Head.fit(
            "mlp", {**options, "memory_limit": limit}, table, labels, validation=validation, seed=0
        )
        for limit in (4.0, (both + 10) / 1e9)  # training rows fit, validation rows do not
    ]
    np.testing.assert_allclose(heads[0].predict(table), heads[1].predict(table), atol=1e-6)


@pytest.mark.parametrize("rows", [60, 97])
def test_every_row_comes_once_an_epoch_with_its_own_labels(rows: int) -> None:
    table, _ = one_slice(rows, 3, slices=6, width=4)
    labels = Labels((Target("x"),), np.arange(rows, dtype=np.float32)[:, None])
    learner = make_learner("attention", {"batch_size": 4})
    reader = BagReader(learner.standardiser(table))
    size = reader.row_bytes(table)
    for limit in (size.sum(), size.sum() * 0.6):
        feed = Feed(reader, table, labels, torch.device("cpu"), limit, 4)
        seen = []
        for bags, shown, values in feed.epoch(0.0, torch.Generator().manual_seed(1)):
            ((instances, counts),) = bags
            assert counts.tolist() == table.instances("axial")[values[:, 0].long()].tolist()
            first = reader.read(table.select([int(values[0, 0])])).bags[0][0]
            assert torch.equal(instances[: counts[0]], first)
            assert len(shown) == len(values) >= 2
            seen += values[:, 0].tolist()
        assert sorted(seen) == list(range(rows))
        assert seen != sorted(seen)


def test_streamed_groups_stay_below_half_of_the_limit_and_differ() -> None:
    table, labels = one_slice(200, 3, slices=12, width=4)
    reader = BagReader(make_learner("attention").standardiser(table))
    size = reader.row_bytes(table)
    feed = Feed(reader, table, labels, torch.device("cpu"), size.sum() / 3, 4)
    generator = torch.Generator().manual_seed(1)
    one, two = feed._groups(generator), feed._groups(generator)
    for groups in (one, two):
        assert all(size[rows].sum() <= size.sum() / 6 for rows in groups)
        assert sorted(np.concatenate(groups).tolist()) == list(range(200))
    assert [g.tolist() for g in one] != [g.tolist() for g in two]


def test_a_limit_below_four_batches_says_what_it_needs() -> None:
    table, labels = plain_in_lateral(300, 1)
    with pytest.raises(ConfigError, match=r"memory_limit.*batches of 64") as caught:
        Head.fit("mlp", {"memory_limit": 1e-6}, table, labels, seed=0)
    advised = float(re.search(r"set memory_limit to (\S+) \(GB\)", str(caught.value))[1])
    Head.fit("mlp", {**QUICK, "epochs": 1, "memory_limit": advised}, table, labels, seed=0)


@pytest.mark.parametrize("name", ["mlp", "attention", "spatial"])
def test_fitted_on_draws(name: str) -> None:
    table, labels = same_height(40, 1, channels=2, positions=3)
    rng = np.random.default_rng(0)
    drawn = {v: table.block(v)[:, None] + rng.normal(size=(40, 3, 6)) * 0.1 for v in table.views}
    shapes = dict.fromkeys(table.views, (2, 3))
    many = table_from_arrays(list(table.studies), drawn, shapes=shapes)
    values = many.by_draw().bags("frontal").values
    np.testing.assert_allclose(values, drawn["frontal"].reshape(-1, 6), rtol=1e-6)
    for tta in ("mean", "augment"):
        head = Head.fit(name, QUICK, many, labels, seed=0, tta=tta)
        assert head.predict(many).shape == (40, 1)


def test_a_view_of_instances_is_their_mean_for_other_learners() -> None:
    table, labels = one_slice(60, 1, slices=8, width=5)
    assert isinstance(table.blocks["axial"], InstanceBlock)
    bag = table.bags("axial", [7]).values
    np.testing.assert_allclose(table.block("axial")[7], bag.mean(axis=0), rtol=1e-5)
    Head.fit("mlp", QUICK, table, labels, seed=0)


class WatchedReader(BagReader):
    """Counts the groups of rows that are alive when another is read."""

    def read(self, table):
        alive = sum(ref() is not None for ref in self.__dict__.setdefault("seen", []))
        self.__dict__["most"] = max(alive, self.__dict__.get("most", 0))
        rows = super().read(table)
        self.seen.append(weakref.ref(rows.bags[0][0]))
        return rows


def test_two_groups_are_in_memory_and_never_three() -> None:
    table, labels = one_slice(200, 3, slices=12, width=4)
    reader = WatchedReader(make_learner("attention").standardiser(table))
    limit = reader.row_bytes(table).sum() / 3
    feed = Feed(reader, table, labels, torch.device("cpu"), limit, 4)
    for _ in feed.epoch(0.0, torch.Generator().manual_seed(1)):
        pass
    assert len(reader.seen) > 5
    assert reader.most <= 1  # beside the one that is being read
