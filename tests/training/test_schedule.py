import pytest
import torch

from mvp.training.monitor import Score
from mvp.training.schedule import derived_seed, one_cycle, seeded


def test_the_rate_climbs_for_three_tenths_and_then_falls():
    cycle = [one_cycle(step, 100, 0.1) for step in range(100)]
    rates, betas = zip(*cycle, strict=True)
    assert rates[29] == max(rates) == pytest.approx(0.1)
    assert list(rates[:30]) == sorted(rates[:30])
    assert list(rates[29:]) == sorted(rates[29:], reverse=True)
    assert rates[0] < 0.01
    assert rates[-1] == pytest.approx(1e-5)
    assert betas[29] == min(betas) == pytest.approx(0.85)
    assert betas[-1] == pytest.approx(0.95)


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_short_cycles_reach_the_peak(steps):
    rates = [one_cycle(step, steps, 1.0)[0] for step in range(steps)]
    assert max(rates) == pytest.approx(1)
    assert min(rates) > 0


def test_seeds_differ_by_seed_phase_epoch_and_use():
    seeds = {
        derived_seed(seed, phase, epoch, use)
        for seed in (0, 1)
        for phase in ("head", "all")
        for epoch in range(3)
        for use in ("rows", "layers")
    }
    assert len(seeds) == 24
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived_seed(1, "all", 2) == derived_seed(1, "all", 2)


def test_torchs_generator_comes_back():
    before = torch.get_rng_state()
    with seeded(1, torch.device("cpu")):
        first = torch.rand(1)
    with seeded(1, torch.device("cpu")):
        assert torch.equal(torch.rand(1), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_better():
    assert Score(1.0, None).beats(None, None, "auroc")
    assert Score(0.9, 0.8).beats(0.1, 0.7, "auroc")
    assert Score(0.5, 0.7).beats(0.6, 0.7, "auroc")
    assert not Score(0.7, 0.7).beats(0.6, 0.7, "auroc")
    assert not Score(0.9, 0.8).beats(0.1, 0.7, "loss")
    assert Score(0.5, None).beats(0.6, None, "auroc")
