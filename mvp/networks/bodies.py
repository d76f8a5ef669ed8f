"""The bodies of a joint network, what goes into them and comes out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mvp.config.network import Pooling
from mvp.errors import MvpError
from mvp.networks.capture import AUTO
from mvp.networks.network import Network


@dataclass(frozen=True, eq=False)
class Body:
    """A view's network and where its features are taken.

    Attributes:
        network: an ordinary one.
        layer: "auto", a layer's name, or several; as in `Capture`.
        pooling: as in `Capture`.
        own: a linear head of the view alone, (row, width) -> (row, output); None for none. Of maps
            it sees the mean over places.
    """

    network: Network
    layer: str | Sequence[str] = AUTO
    pooling: Pooling = "avg"
    own: nn.Module | None = None


@dataclass(frozen=True, eq=False)
class ViewInputs:
    """The inputs of one view for those rows of a batch that have it.

    Attributes:
        rows: (n,) numbers of the rows, in order.
        inputs: (m, ...) as the network takes them; those of a row together.
        counts: how many inputs each of the rows has; None where every row has one.
    """

    rows: Tensor
    inputs: Tensor
    counts: Sequence[int] | None = None


@dataclass(frozen=True, eq=False)
class ViewFeatures:
    """The features of one view for those rows of a batch that have it.

    Attributes:
        rows: (n,) numbers of the rows.
        values: (n, ...) as captured, of several inputs of a row their maximum or mean.
    """

    rows: Tensor
    values: Tensor


@dataclass(frozen=True, eq=False)
class Joined:
    """What a batch looks like to the head.

    Attributes:
        features: (row, Σ feature) standardised, 0 where a view is missing.
        presence: (row, view) bool.
        own: for each view with a head of its own and rows: the rows, and logits (n, output).
    """

    features: Tensor
    presence: Tensor
    own: dict[str, tuple[Tensor, Tensor]]


@contextmanager
def still_norms(module: nn.Module, inputs: int) -> Iterator[None]:
    """While it lasts, batch norm goes by its running statistics where there is one input.

    One input has no variance over a batch, and a step may well have one study with a view.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training]
    norms = norms if inputs == 1 else []
    for norm in norms:
        norm.training = False
    try:
        yield
    finally:
        for norm in norms:
            norm.training = True


def last_dropouts(network: Network) -> list[nn.Module]:
    """Dropouts that stand right before the classifier, with nothing fitted between."""
    if network.classifier is None:
        return []
    found: list[nn.Module] = []
    leaves = [
        (n, m) for n, m in network.module.named_modules() if not any(True for _ in m.children())
    ]
    names = [name for name, _ in leaves]
    if network.classifier not in names:
        raise MvpError(
            f"the classifier {network.classifier!r} of {network.name!r} has layers inside"
        )
    for _, module in reversed(leaves[: names.index(network.classifier)]):
        if isinstance(module, nn.Dropout):
            found.append(module)
        elif any(True for _ in module.parameters()):
            break
    return found
