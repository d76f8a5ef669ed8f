"""The training loop of the torch learners, and where it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import nn

from mvp.errors import ConfigError
from mvp.learners.fusion_net import loss_terms, masked_loss
from mvp.learners.torch_rows import Feed
from mvp.types import Target


class Settings(Protocol):
    """What the loop must know of a learner."""

    lr: float
    weight_decay: float
    epochs: int
    patience: int
    view_dropout: float


def train(
    net: nn.Module,
    targets: Sequence[Target],
    feed: Feed,
    stop: Feed | None,
    settings: Settings,
    generator: torch.Generator,
) -> None:
    """Fit a network; with rows to stop on, the weights of its best epoch remain.

    Args:
        net: gives logits (row, output) of inputs and the views that are shown (row, view).
        targets: what the outputs mean.
        feed: the training rows.
        stop: rows whose loss says when to stop; without them all epochs run.
        settings: how.
        generator: decides the order of rows and which views are dropped.
    """
    # A validation set in which nothing is known cannot say when to stop.
    stop = None if stop is None or not stop.known_fraction.any() else stop
    # The plain loop over parameters takes a good part of a step of a small network.
    fused = next(net.parameters()).device.type in ("cpu", "cuda")
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=fused
    )
    best_loss, best_weights, waited = float("inf"), None, 0
    for _ in range(settings.epochs):
        train_epoch(net, targets, feed, optimiser, settings.view_dropout, generator)
        if stop is None:
            continue
        loss = loss_of(net, targets, stop)
        if loss < best_loss:
            best_loss, waited = loss, 0
            best_weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        else:
            waited += 1
            if waited >= settings.patience:
                break
    if best_weights is not None:
        net.load_state_dict(best_weights)


def train_epoch(
    net: nn.Module,
    targets: Sequence[Target],
    feed: Feed,
    optimiser: torch.optim.Optimizer,
    view_dropout: float,
    generator: torch.Generator,
) -> None:
    """One pass over the training rows; arguments as of `train`."""
    net.train()
    fraction = feed.known_fraction
    for inputs, shown, values in feed.epoch(view_dropout, generator):
        loss = values.new_zeros(())
        for term in loss_terms(net, inputs, shown):
            own = values
            if term.rows is not None:
                own = values.masked_fill(~term.rows.unsqueeze(1), torch.nan)
            loss = loss + term.weight * masked_loss(term.logits, own, targets, fraction)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()


def loss_of(net: nn.Module, targets: Sequence[Target], feed: Feed) -> float:
    """The loss over all rows of a feed, as one batch would have it."""
    net.eval()
    total, fraction = 0.0, feed.known_fraction
    with torch.inference_mode():
        for inputs, presence, values in feed.in_order():
            loss = masked_loss(net(inputs, presence), values, targets, fraction)
            total += float(loss) * len(values) / len(feed.values)
    return total


def find_device(name: str, *, fallback: bool = False) -> torch.device:
    """The device of that name; `auto` is CUDA if there is one.

    A head fitted on a GPU must load on a machine without one: `fallback` takes the CPU then.

    Raises:
        ConfigError: there is no such device.
    """
    cuda = torch.cuda.is_available()
    if name == "auto" or (fallback and name.startswith("cuda") and not cuda):
        return torch.device("cuda" if cuda and name == "auto" else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ConfigError(
            f"there is no device {name!r}",
            cause=str(error).splitlines()[0],
            remedy="use device=auto or device=cpu",
        ) from error
    return device


@contextmanager
def private_random_state(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch for initial weights and dropout, and give the caller's state back after."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        # Not torch.manual_seed: it would seed every device, also those that are not given back.
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
