"""Batch norm over all processes, held against torch's own where there is one process."""

import pytest
import torch
from torch.nn import functional

from mvp.training.batch_norm import _Shared
from mvp.training.processes import Processes


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_it_is_torchs_own_also_in_half_precision(kind, affine):
    chance = torch.Generator().manual_seed(0)
    pixels = torch.randn(8, 4, 9, 9, generator=chance).to(kind)
    # Near 1, where bfloat16 has a step of 0.008.
    scale = 1 + 0.05 * torch.rand(4, generator=chance)
    weights = torch.linspace(-1, 1, pixels.numel()).view_as(pixels)

    def both_ways(mode):
        given = [t.clone().requires_grad_() for t in (pixels, scale, scale - 1)]
        running = [torch.zeros(4), torch.ones(4)]
        with mode:
            out = functional.batch_norm(
                given[0], *running, *(given[1:] if affine else (None, None)), True
            )
        (out.float() * weights).sum().backward()
        return [out, *running, *(t.grad for t in given if t.grad is not None)]

    own, shared = both_ways(torch.enable_grad()), both_ways(_Shared(Processes()))
    assert own[0].dtype == shared[0].dtype == kind
    for one, other in zip(own, shared, strict=True):
        # A value between two of bfloat16's may be rounded to either.
        assert ((one - other).abs() > 1e-5 * (1 + other.abs())).float().mean() < 0.01
        torch.testing.assert_close(one, other)


class Twins(Processes):
    """Two processes with the very same rows."""

    def add_up(self, values):
        values *= 2


def test_rows_that_every_process_does_count_once():
    rows, running, own = torch.randn(3, 4), [torch.zeros(4), torch.ones(4)], torch.nn.BatchNorm1d(4)
    with _Shared(Twins(), copies=2):
        out = functional.batch_norm(rows, *running, training=True)
    torch.testing.assert_close(out, own(rows))
    torch.testing.assert_close(running, [own.running_mean, own.running_var])
