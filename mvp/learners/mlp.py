"""A multi-layer perceptron on the joined features of all views."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mvp.errors import ConfigError
from mvp.features.table import FeatureTable
from mvp.files import read_json, write_json
from mvp.learners.base import Validation, stored_options
from mvp.learners.fusion_net import FusionNet, drop_views, masked_loss, probabilities
from mvp.learners.standardise import Standardiser
from mvp.types import FloatArray, Labels, Target

_AT_LEAST = {"hidden": 1, "layers": 0, "epochs": 1, "patience": 1, "batch_size": 2}
_FRACTIONS = ("dropout", "view_dropout")


class MLPLearner:
    """One perceptron for all labels, in which views can speak to each other.

    Features are standardised by the training rows. A missing view is replaced by a learned
    token, and whole views are dropped at random while training, so that a study that lacks one
    is no stranger. With validation rows, training stops when their loss no longer falls, and
    the best epoch's weights are kept; without them, all epochs run.

    Args:
        hidden: units of each hidden layer.
        layers: number of hidden layers, each with batch norm, ReLU and dropout.
        dropout: probability of dropping a hidden unit.
        view_dropout: probability of dropping a view of a row; its last view always stays.
        lr: AdamW's learning rate.
        weight_decay: AdamW's decay.
        epochs: passes over the training rows, at most.
        patience: epochs without a better validation loss before stopping.
        batch_size: rows per step, at least 2 (batch norm).
        device: `auto`, `cpu`, `cuda`, `mps`, …
    """

    def __init__(
        self,
        *,
        hidden: int = 128,
        layers: int = 2,
        dropout: float = 0.3,
        view_dropout: float = 0.1,
        lr: float = 2e-3,
        weight_decay: float = 1e-2,
        epochs: int = 200,
        patience: int = 30,
        batch_size: int = 64,
        device: str = "auto",
    ) -> None:
        self.hidden = hidden
        self.layers = layers
        self.dropout = dropout
        self.view_dropout = view_dropout
        self.lr = lr
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.patience = patience
        self.batch_size = batch_size
        self.device = device

    def fit(
        self, table: FeatureTable, labels: Labels, *, validation: Validation | None, seed: int
    ) -> Self:
        """See `Learner.fit`.

        Raises:
            ConfigError: an option's value is out of range, or there is no such device.
        """
        self._check_options()
        device = _device(self.device)
        self._targets, self._widths = labels.targets, table.signature.widths
        self._scaler = Standardiser.fit(table)
        train = self._tensors(table, labels, device)
        stop = None if validation is None else self._tensors(*validation, device)
        with _private_random_state(device, seed):
            self._net = self._new_net().to(device)
            self._train(train, stop, torch.Generator().manual_seed(seed))
        self._net.eval()
        return self

    def predict(self, table: FeatureTable) -> FloatArray:
        """(study, output) float32 probabilities; see `Learner.predict`."""
        device = next(self._net.parameters()).device
        outputs = sum(len(t.outputs) for t in self._targets)
        result = np.empty((len(table), outputs), np.float32)
        with torch.inference_mode():
            for rows, matrix in table.batches():
                features = torch.from_numpy(self._scaler.transform(matrix)).to(device)
                presence = torch.from_numpy(table.presence[rows]).to(device)
                logits = self._net(features, presence)
                result[rows] = probabilities(logits, self._targets).cpu().numpy()
        return result

    def save(self, folder: Path) -> None:
        """`weights.safetensors` (network and standardisation) and `mlp.json`."""
        tensors = {f"net.{k}": v.cpu().contiguous() for k, v in self._net.state_dict().items()}
        tensors["scaler.mean"] = torch.from_numpy(self._scaler.mean)
        tensors["scaler.std"] = torch.from_numpy(self._scaler.std)
        save_file(tensors, folder / "weights.safetensors")
        targets = [{"name": t.name, "classes": t.classes} for t in self._targets]
        write_json(
            folder / "mlp.json",
            {"options": stored_options(self), "widths": self._widths, "targets": targets},
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """See `Learner.load`."""
        stored = read_json(folder / "mlp.json")
        learner = cls(**stored["options"])
        learner._widths = tuple(stored["widths"])
        learner._targets = tuple(Target(t["name"], tuple(t["classes"])) for t in stored["targets"])
        tensors = load_file(folder / "weights.safetensors")
        learner._scaler = Standardiser(
            tensors.pop("scaler.mean").numpy(), tensors.pop("scaler.std").numpy()
        )
        # Initial weights are drawn and thrown away: the caller's random state must not notice.
        with _private_random_state(torch.device("cpu"), 0):
            learner._net = learner._new_net()
        learner._net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items()})
        learner._net.to(_device(learner.device, fallback=True)).eval()
        return learner

    def _new_net(self) -> FusionNet:
        outputs = sum(len(t.outputs) for t in self._targets)
        return FusionNet(
            self._widths, outputs, hidden=self.hidden, layers=self.layers, dropout=self.dropout
        )

    def _tensors(
        self, table: FeatureTable, labels: Labels, device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Features (row, Σ feature), presence (row, view) and labels (row, target)."""
        arrays = (self._scaler.transform(table.matrix()), table.presence, labels.values)
        features, presence, values = (torch.as_tensor(a).to(device) for a in arrays)
        return features, presence, values.float()

    def _train(
        self,
        train: tuple[Tensor, Tensor, Tensor],
        stop: tuple[Tensor, Tensor, Tensor] | None,
        generator: torch.Generator,
    ) -> None:
        features, presence, values = train
        fraction = _known_fraction(values)
        # A validation set in which nothing is known cannot say when to stop.
        stop = None if stop is None or not _known_fraction(stop[2]).any() else stop
        optimiser = torch.optim.AdamW(
            self._net.parameters(), lr=self.lr, weight_decay=self.weight_decay
        )
        best_loss, best_weights, waited = float("inf"), None, 0
        for _ in range(self.epochs):
            self._net.train()
            for batch in _shuffled_batches(len(values), self.batch_size, generator):
                rows = batch.to(values.device)
                shown = drop_views(presence[rows], self.view_dropout, generator)
                logits = self._net(features[rows], shown)
                loss = masked_loss(logits, values[rows], self._targets, fraction)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
            if stop is None:
                continue
            loss_now = self._loss(stop)
            if loss_now < best_loss:
                weights = self._net.state_dict()
                best_loss, waited = loss_now, 0
                best_weights = {name: tensor.clone() for name, tensor in weights.items()}
            else:
                waited += 1
                if waited >= self.patience:
                    break
        if best_weights is not None:
            self._net.load_state_dict(best_weights)

    def _loss(self, data: tuple[Tensor, Tensor, Tensor]) -> float:
        features, presence, values = data
        self._net.eval()
        with torch.inference_mode():
            logits = self._net(features, presence)
            return float(masked_loss(logits, values, self._targets, _known_fraction(values)))

    def _check_options(self) -> None:
        for option, least in _AT_LEAST.items():
            value = getattr(self, option)
            if not isinstance(value, int) or value < least:
                raise ConfigError(f"{option} is {value!r}, expected a whole number >= {least}")
        for option in (*_FRACTIONS, "lr", "weight_decay"):
            value = getattr(self, option)
            top = 1.0 if option in _FRACTIONS else float("inf")
            if not isinstance(value, int | float) or not 0 <= value < top:
                raise ConfigError(f"{option} is {value!r}, expected a number from 0 to below {top}")


def _known_fraction(values: Tensor) -> Tensor:
    """(target,) fraction of rows in which a label is known."""
    return (~torch.isnan(values)).float().mean(dim=0)


def _shuffled_batches(rows: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """All row indices once, in random order; a last row alone joins the batch before it."""
    batches = list(torch.randperm(rows, generator=generator).split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        # Batch norm has no variance over one row, and dropping the row would lose data.
        batches[-2:] = [torch.cat(batches[-2:])]
    return iter(batches)


def _device(name: str, *, fallback: bool = False) -> torch.device:
    """The device of that name; `auto` is CUDA if there is one.

    A head fitted on a GPU must load on a machine without one: `fallback` takes the CPU then.
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
def _private_random_state(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch for initial weights and dropout, and give the caller's state back after."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        # Not torch.manual_seed: it would seed every device, also those that are not given back.
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
