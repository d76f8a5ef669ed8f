import numpy as np
import pytest
import torch
from torch.nn import functional

from mvp.networks import masked_loss, positive_weights, probabilities
from mvp.types import Labels, Target

TARGETS = (Target("a"), Target("kind", ("x", "y", "z")), Target("b"))
NAN = float("nan")
VALUES = torch.tensor([[1, 2, NAN], [0, NAN, NAN], [NAN, 0, 1], [NAN, NAN, NAN]])
ONES = torch.ones(3)


def logits():
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)


def test_the_mean_over_known_labels():
    x = logits()
    weights = torch.tensor([3.0, 1.0, 1.0])
    bce, ce = functional.binary_cross_entropy_with_logits, functional.cross_entropy
    parts = [
        bce(x[0, 0], torch.tensor(1.0)) * 3,
        bce(x[1, 0], torch.tensor(0.0)),
        ce(x[0, 1:4], torch.tensor(2)),
        ce(x[2, 1:4], torch.tensor(0)),
        bce(x[2, 4], torch.tensor(1.0)),
    ]
    torch.testing.assert_close(masked_loss(x, VALUES, TARGETS, weights), sum(parts) / 5)


def test_unknown_labels_have_no_gradient():
    x = logits()
    masked_loss(x, VALUES, TARGETS, ONES).backward()
    assert torch.isfinite(x.grad).all()
    known = torch.zeros(4, 5, dtype=torch.bool)
    known[0, :4] = known[1, 0] = known[2, 1:] = True
    assert (x.grad[~known] == 0).all()
    assert (x.grad[known] != 0).all()


def test_nothing_known_is_zero_and_has_zero_gradient():
    x = logits()
    loss = masked_loss(x, torch.full((4, 3), NAN), TARGETS, ONES)
    loss.backward()
    assert loss == 0
    assert (x.grad == 0).all()


def test_an_infinite_logit_of_an_unknown_label_does_no_harm():
    x = torch.tensor([[1.0], [float("inf")]], requires_grad=True)
    values = torch.tensor([[1.0], [NAN]])
    masked_loss(x, values, (Target("a"),), torch.ones(1)).backward()
    assert torch.isfinite(x.grad).all()


def test_positive_weights_are_capped_and_skip_what_is_undefined():
    values = np.full((12, 5), np.nan, np.float32)
    values[:4, 0] = [1, 0, 0, 0]
    values[:, 1] = [1] + [0] * 11
    values[:, 2] = [0] + [1] * 11
    values[:5, 3] = 1
    values[:3, 4] = [0, 1, 2]
    targets = (*(Target(n) for n in "abcd"), Target("e", ("x", "y", "z")))
    weights = positive_weights(Labels(targets, values), cap=5)
    np.testing.assert_allclose(weights, [3, 5, 0.2, 1, 1])
    assert weights.dtype == np.float32


def test_probabilities():
    x = logits().detach()
    p = probabilities(x, TARGETS)
    assert p.shape == (4, 5)
    torch.testing.assert_close(p[:, 0], x[:, 0].sigmoid())
    torch.testing.assert_close(p[:, 1:4], x[:, 1:4].softmax(1))
    assert p[:, 4] == pytest.approx(x[:, 4].sigmoid())


def test_the_gradient_of_the_head_is_that_of_the_live_network():
    # The head trained on cached features sees what it would see in the frozen network.
    torch.manual_seed(0)
    body, head = torch.nn.Linear(6, 4), torch.nn.Linear(4, 1)
    images, values = torch.randn(8, 6), torch.randint(0, 2, (8, 1)).float()
    cached = body(images).detach()
    grads = []
    for seen in (cached, body(images).detach()):
        head.zero_grad()
        loss = masked_loss(head(seen), values, (Target("a"),), torch.ones(1))
        loss.backward()
        grads.append((loss.detach(), head.weight.grad.clone()))
    torch.testing.assert_close(grads[0], grads[1])
