"""The joint network: batches with every combination of views are what single studies are."""

import itertools

import pytest
import torch
from torch import nn

from mvp.config import NetworkConfig
from mvp.errors import ConfigError, DataError
from mvp.learners.auxiliary import AuxiliaryNet
from mvp.learners.fusion_net import FusionNet, loss_terms
from mvp.learners.hemis import HemisNet
from mvp.learners.maps import MapsNet
from mvp.learners.spatial import SpatialNet
from mvp.networks import build
from mvp.networks.bodies import Body, ViewFeatures, ViewInputs, last_dropouts
from mvp.networks.multiview import MultiView
from mvp.networks.sharing import share_stem

HEAD = {"hidden": 6, "layers": 1, "dropout": 0.4}
OUTPUTS = 2
# Of the small network at 16 x 16: what it pools, and its last map.
WIDTH, MAP = 128, (64, 2, 2)


def fused(views, kind):
    """A head of some kind, its body's layer and pooling, and the width of a view."""
    torch.manual_seed(7)
    widths = [WIDTH] * views
    if kind == "mlp":
        return FusionNet(widths, OUTPUTS, **HEAD), "auto", "avg", WIDTH
    if kind == "hemis":
        return HemisNet(widths, OUTPUTS, embed=5, **HEAD), "auto", "avg", WIDTH
    if kind == "auxiliary":
        return AuxiliaryNet(widths, OUTPUTS, weight=0.3, **HEAD), "auto", "avg", WIDTH
    channels, height, width = MAP
    if kind == "spatial":
        net = SpatialNet(channels, height, views, OUTPUTS, filters=4, kernel=1, **HEAD)
        return net, "stages.2", "rows", channels * height
    net = MapsNet(MAP, views, OUTPUTS, filters=4, **HEAD)
    return net, "stages.2", "map", channels * height * width


KINDS = ("mlp", "hemis", "auxiliary", "spatial", "maps")


def network(seed):
    torch.manual_seed(seed)
    return build(NetworkConfig(name="small"), OUTPUTS)


def joint(kind="mlp", views=("frontal", "lateral"), own=True, share=None):
    head, layer, pooling, width = fused(len(views), kind)
    networks = {view: network(seed) for seed, view in enumerate(views)}
    shared = [share_stem(networks, share)] if share else []
    bodies = {}
    for view, one in networks.items():
        torch.manual_seed(11)
        own_head = None
        if own and kind != "auxiliary":
            own_head = one.head if layer == "auto" else nn.Linear(MAP[0], OUTPUTS)
        bodies[view] = Body(one, layer, pooling, own_head)
    total = width * len(views)
    chance = torch.Generator().manual_seed(5)
    mean = torch.rand(total, generator=chance) * 0.1
    std = torch.rand(total, generator=chance) + 0.5
    return MultiView(dict.fromkeys(views, width), bodies, head, mean, std, shared=shared).eval()


def studies(patterns, views, slices=None, seed=3):
    """For each view the images of the studies that have it; of `slices` several a study."""
    chance = torch.Generator().manual_seed(seed)
    found = {}
    for place, view in enumerate(views):
        rows = [i for i, pattern in enumerate(patterns) if pattern[place]]
        counts = [1 if slices is None else slices[i] for i in rows]
        images = torch.rand(sum(counts), 3, 16, 16, generator=chance)
        found[view] = ViewInputs(torch.tensor(rows), images, None if slices is None else counts)
    return {view: one for view, one in found.items() if len(one.rows)}


def alone(batch, row):
    """One study of a batch as a batch of its own."""
    found = {}
    for view, one in batch.items():
        rows = one.rows.tolist()
        if row in rows:
            counts = one.counts or [1] * len(rows)
            place = rows.index(row)
            start = sum(counts[:place])
            images = one.inputs[start : start + counts[place]]
            found[view] = ViewInputs(torch.tensor([0]), images, [counts[place]])
    return found


def loss(module, batch, rows, truth):
    """What training minimises: the head's terms, and a third of the views' own losses."""
    seen = module.look(batch, rows)
    total = torch.zeros(())
    for term in loss_terms(module.head, seen.features, seen.presence):
        own = nn.functional.binary_cross_entropy_with_logits(
            term.logits, truth, reduction="none"
        ).sum(1)
        own = own if term.rows is None else own[term.rows]
        total = total + term.weight * own.sum()
    for rows_of, logits in seen.own.values():
        total = total + 0.3 * nn.functional.binary_cross_entropy_with_logits(
            logits, truth[rows_of], reduction="sum"
        )
    return total


def gradients(module):
    return {n: None if p.grad is None else p.grad.clone() for n, p in module.named_parameters()}


PATTERNS = {
    "every combination": [(1, 0), (1, 1), (0, 1), (1, 1), (1, 0), (0, 1), (1, 1), (1, 0)],
    "all frontal": [(1, 0)] * 8,
    "all lateral": [(0, 1)] * 8,
    "all of both": [(1, 1)] * 8,
    "one study": [(0, 1)],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("patterns", PATTERNS.values(), ids=PATTERNS)
def test_a_batch_is_the_sum_of_its_studies(kind, patterns):
    module = joint(kind)
    views = tuple(module.widths)
    batch = studies(patterns, views)
    truth = (torch.arange(2 * len(patterns)).view(-1, 2) % 3 == 0).float()
    with torch.no_grad():
        together = module(batch, len(patterns))
        each = torch.cat([module(alone(batch, row), 1) for row in range(len(patterns))])
    torch.testing.assert_close(together, each, rtol=1e-5, atol=1e-5)
    loss(module, batch, len(patterns), truth).backward()
    mine = gradients(module)
    module.zero_grad(set_to_none=True)
    for row in range(len(patterns)):
        loss(module, alone(batch, row), 1, truth[row : row + 1]).backward()
    for name, other in gradients(module).items():
        assert (mine[name] is None) == (other is None), name
        if other is not None:
            torch.testing.assert_close(mine[name], other, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("kind", ["mlp", "hemis", "auxiliary"])
def test_three_views_with_all_seven_combinations_of_slices(kind):
    views = ("axial", "coronal", "sagittal")
    module = joint(kind, views)
    patterns = [p for p in itertools.product((0, 1), repeat=3) if any(p)]
    slices = [3, 1, 4, 2, 5, 1, 6]
    batch = studies(patterns, views, slices)
    truth = (torch.arange(14).view(-1, 2) % 3 == 0).float()
    with torch.no_grad():
        together = module(batch, 7)
        each = torch.cat([module(alone(batch, row), 1) for row in range(7)])
    torch.testing.assert_close(together, each, rtol=1e-5, atol=1e-5)
    loss(module, batch, 7, truth).backward()
    mine = gradients(module)
    module.zero_grad(set_to_none=True)
    for row in range(7):
        loss(module, alone(batch, row), 1, truth[row : row + 1]).backward()
    for name, other in gradients(module).items():
        if other is not None:
            torch.testing.assert_close(mine[name], other, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("how", ["max", "mean"])
def test_slices_are_reduced_before_the_head(how):
    module = joint()
    module.how = how
    batch = studies([(1, 1), (1, 0)], tuple(module.widths), [3, 2])
    with torch.no_grad():
        seen = module.features(batch)["frontal"].values
        each = module.features({"frontal": ViewInputs(torch.arange(5), batch["frontal"].inputs)})[
            "frontal"
        ].values
    want = [part.amax(0) if how == "max" else part.mean(0) for part in each.split([3, 2])]
    torch.testing.assert_close(seen, torch.stack(want))


@pytest.mark.parametrize("make", ["adamw", "sgd"])
def test_a_body_that_saw_nobody_keeps_every_bit(make):
    module = joint().train()
    views = tuple(module.widths)
    optimizer = (
        torch.optim.AdamW(module.parameters(), lr=0.1, weight_decay=0.5)
        if make == "adamw"
        else torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=0.5)
    )

    def step(patterns, seed):
        optimizer.zero_grad()
        truth = torch.ones(len(patterns), 2)
        loss(module, studies(patterns, views, seed=seed), len(patterns), truth).backward()
        optimizer.step()

    step([(1, 1)] * 4, 1)  # momentum has somewhere to go
    state = module.views["lateral"].network.module.state_dict()
    before = {name: value.clone() for name, value in state.items()}
    other = module.views["frontal"].network.module.stem[0].weight.clone()
    for seed in range(3):
        step([(1, 0)] * 4, seed)
    after = module.views["lateral"].network.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(other, module.views["frontal"].network.module.stem[0].weight)
    step([(1, 1)] * 4, 2)
    moved = module.views["lateral"].network.module.state_dict()
    assert not all(torch.equal(before[name], moved[name]) for name in before)


def test_what_no_row_has_is_not_run():
    module = joint("auxiliary")
    ran = []
    for view, body in module.views.items():
        body.network.module.register_forward_hook(lambda *_, view=view: ran.append(view))
    module.head.joint.register_forward_hook(lambda *_: ran.append("joint head"))
    for view, head in zip(module.widths, module.head.own, strict=True):
        head.register_forward_hook(lambda *_, view=view: ran.append(f"head of {view}"))
    module(studies([(1, 0)] * 3, tuple(module.widths)), 3)
    assert ran == ["frontal", "head of frontal"]
    ran.clear()
    module(studies([(1, 1)] * 3, tuple(module.widths)), 3)
    assert ran == ["frontal", "lateral", "joint head"]


def test_one_study_with_a_view_goes_by_running_statistics():
    module = joint().train()
    batch = studies([(1, 1), (1, 0), (1, 0)], tuple(module.widths))
    norms = [
        m for m in module.views["lateral"].network.module.modules() if hasattr(m, "running_mean")
    ]
    before = [m.running_mean.clone() for m in norms]
    loss(module, batch, 3, torch.ones(3, 2)).backward()
    assert all(torch.equal(b, m.running_mean) for b, m in zip(before, norms, strict=True))
    assert all(m.training for m in norms)
    # The head of one study, too.
    loss(module, studies([(1, 1)], tuple(module.widths)), 1, torch.ones(1, 2)).backward()


@pytest.mark.parametrize("share", ["stages.0", "all"])
def test_shared_layers_see_all_views_at_once(share):
    module = joint(share=share)
    batch = studies([(1, 1), (1, 0), (0, 1), (1, 1)], tuple(module.widths))
    with torch.no_grad():
        together = module.features(batch)
        for view, one in batch.items():
            each = module._alone(view, one.inputs)
            torch.testing.assert_close(together[view].values, each, rtol=1e-5, atol=1e-5)
    module.train()
    calls = []
    norm = next(m for m in module.modules() if isinstance(m, nn.BatchNorm2d))
    norm.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    module.features(batch)
    assert calls == [6]


def test_fixed_features_stand_beside_bodies():
    torch.manual_seed(0)
    head = FusionNet([WIDTH, 3], OUTPUTS, **HEAD)
    module = MultiView(
        {"frontal": WIDTH, "age": 3},
        {"frontal": Body(network(0))},
        head,
        torch.zeros(WIDTH + 3),
        torch.full((WIDTH + 3,), 2.0),
    ).eval()
    batch = studies([(1,), (0,)], ("frontal",))
    values = ViewFeatures(torch.tensor([1]), torch.tensor([[2.0, 4.0, 6.0]]))
    seen = module.look(batch, 2, {"age": values})
    assert seen.presence.tolist() == [[True, False], [False, True]]
    assert seen.features[1, WIDTH:].tolist() == [1.0, 2.0, 3.0]
    assert not seen.features[0, WIDTH:].any()
    with pytest.raises(DataError, match="weight"):
        module.look(batch, 2, {"weight": values})
    with pytest.raises(ConfigError, match="3 features"):
        module.look({}, 2, {"frontal": values})


@pytest.mark.parametrize(
    ("name", "found"),
    [("alexnet", 0), ("vgg11", 1), ("efficientnet_b0", 1), ("mobilenet_v2", 1), ("resnet18", 0)],
)
def test_the_dropout_before_the_classifier_stays_out(name, found):
    made = build(NetworkConfig(name=name), OUTPUTS)
    assert len(last_dropouts(made)) == found
    head = FusionNet([made.width], OUTPUTS, **HEAD)
    module = MultiView(
        {"a": made.width}, {"a": Body(made)}, head, torch.zeros(made.width), torch.ones(made.width)
    ).train()
    assert not any(m.training for m in last_dropouts(made))
    assert module.head.training


@pytest.mark.parametrize("layer", ["features.denseblock3", "features.denseblock4"])
def test_views_meet_in_the_maps_of_a_dense_block(layer):
    networks = {}
    for seed, view in enumerate(("frontal", "lateral")):
        torch.manual_seed(seed)
        networks[view] = build(NetworkConfig(name="densenet121"), OUTPUTS)
    side = 4 if layer.endswith("3") else 2
    width = 1024 * side * side
    head = MapsNet((1024, side, side), 2, OUTPUTS, filters=4, **HEAD)
    bodies = {view: Body(one, layer, "map") for view, one in networks.items()}
    module = MultiView(
        dict.fromkeys(networks, width), bodies, head, torch.zeros(2 * width), torch.ones(2 * width)
    )
    batch = {
        "frontal": ViewInputs(torch.tensor([0, 1]), torch.rand(2, 3, 64, 64)),
        "lateral": ViewInputs(torch.tensor([1]), torch.rand(1, 3, 64, 64)),
    }
    module.train()(batch, 2).sum().backward()
    for one in networks.values():
        found = {n: p.grad is not None for n, p in one.module.named_parameters()}
        assert found["features.conv0.weight"]
        # What comes after the place where they meet has no part in it.
        assert not found["classifier.weight"]
        assert found["features.denseblock4.denselayer1.norm1.weight"] is layer.endswith("4")
