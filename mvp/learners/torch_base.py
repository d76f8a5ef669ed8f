"""What the torch learners have in common: options, fitting, predicting, files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mvp.errors import ConfigError
from mvp.features.table import FeatureTable
from mvp.files import read_json, write_json
from mvp.learners.base import Validation, stored_options
from mvp.learners.fusion_net import probabilities
from mvp.learners.options import require_number
from mvp.learners.standardise import Standardiser
from mvp.learners.torch_rows import DenseReader, Feed, Reader, read_parts
from mvp.learners.torch_training import find_device, private_random_state, train
from mvp.types import FloatArray, Labels, Target

_GB = 1e9


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a torch learner is beside its options.

    Attributes:
        net: gives logits (row, output) of standardised features and presence.
        scaler: how features are standardised.
        layout: what the network's form depends on, as `TorchLearner.layout` gives it.
        targets: what the outputs mean.
    """

    net: nn.Module
    scaler: Standardiser
    layout: Mapping[str, Any]
    targets: tuple[Target, ...]


@dataclass(kw_only=True, eq=False)
class TorchLearner:
    """A network on the features of all views; a learner says which network, and what it reads.

    Features are standardised by the training rows. Whole views are dropped at random while
    training, so that a study that lacks one is no stranger. With validation rows, training stops
    when their loss no longer falls, and the best epoch's weights are kept; without them, all
    epochs run. Features that exceed `memory_limit` are read anew in every epoch, in shuffled
    blocks of consecutive rows.

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
        memory_limit: GB (10^9 bytes) that features may take in memory.
        device: `auto`, `cpu`, `cuda`, `mps`, …
    """

    name: ClassVar[str]
    at_least: ClassVar[Mapping[str, int]] = {
        "hidden": 1,
        "layers": 0,
        "epochs": 1,
        "patience": 1,
        "batch_size": 2,
    }
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    # Epochs are not in it: rows to stop on choose them.
    search_space: ClassVar[Mapping[str, Any]] = {
        "hidden": {"low": 32, "high": 512, "log": True},
        "layers": {"low": 0, "high": 3},
        "dropout": {"low": 0.0, "high": 0.6},
        "view_dropout": {"low": 0.0, "high": 0.5},
        "lr": {"low": 2e-4, "high": 2e-2, "log": True},
        "weight_decay": {"low": 1e-4, "high": 1.0, "log": True},
    }

    hidden: int = 128
    layers: int = 2
    dropout: float = 0.3
    view_dropout: float = 0.1
    lr: float = 2e-3
    weight_decay: float = 1e-2
    epochs: int = 200
    patience: int = 30
    batch_size: int = 64
    memory_limit: float = 4.0
    device: str = "auto"

    def layout(self, table: FeatureTable) -> dict[str, Any]:
        """What the network's form depends on, as JSON.

        Raises:
            ConfigError: the learner has no network for these features.
        """
        return {"widths": list(table.signature.widths)}

    def new_net(self, layout: Mapping[str, Any], outputs: int) -> nn.Module:
        """A network for that layout: logits (row, output) of inputs and presence (row, view)."""
        raise NotImplementedError

    def standardiser(self, table: FeatureTable) -> Standardiser:
        """Mean and spread of the training rows."""
        return Standardiser.fit(table)

    def reader(self, scaler: Standardiser) -> Reader:
        """How rows become what the network is given."""
        return DenseReader(scaler)

    def fit(
        self, table: FeatureTable, labels: Labels, *, validation: Validation | None, seed: int
    ) -> Self:
        """See `Learner.fit`.

        Raises:
            ConfigError: an option's value is out of range, there is no such device, or the
                features do not suit the learner.
        """
        self._check_options()
        device = find_device(self.device)
        self._targets, self._layout = labels.targets, self.layout(table)
        self._scaler = self.standardiser(table)
        reader = self.reader(self._scaler)
        needed = reader.row_bytes(table).sum()
        limit = self.memory_limit * _GB
        stop = None
        if validation is not None:
            # Rows to stop on are read once an epoch, in order: they give way first.
            left = max(0.0, limit - needed)
            stop = Feed(reader, *validation, device, left)
        feed = Feed(reader, table, labels, device, limit, self.batch_size)
        with private_random_state(device, seed):
            self._net = self._new_net().to(device)
            generator = torch.Generator().manual_seed(seed)
            train(self._net, self._targets, feed, stop, self, generator)
        self._net.eval()
        return self

    def predict(self, table: FeatureTable) -> FloatArray:
        """(study, output) float32 probabilities; see `Learner.predict`.

        Raises:
            ConfigError: the features are not of the form that the learner was fitted on.
        """
        if (offered := self.layout(table)) != self._layout:
            raise ConfigError(
                f"the learner {self.name!r} was fitted on features of the form {self._layout}, "
                f"these have {offered}",
                remedy="fit the head again: mvp fit-head",
            )
        device = next(self._net.parameters()).device
        result = np.empty((len(table), self._outputs), np.float32)
        with torch.inference_mode():
            for part, inputs, presence in read_parts(self.reader(self._scaler), table, device):
                logits = self._net(inputs, presence)
                result[part] = probabilities(logits, self._targets).cpu().numpy()
        return result

    @property
    def fitted(self) -> Fitted:
        """What was fitted."""
        return Fitted(self._net, self._scaler, self._layout, self._targets)

    def with_fitted(self, fitted: Fitted) -> Self:
        """Take over what was fitted elsewhere, as by a joint training; gives the learner itself."""
        self._net, self._scaler = fitted.net, fitted.scaler
        self._layout, self._targets = dict(fitted.layout), fitted.targets
        self._net.eval()
        return self

    def save(self, folder: Path) -> None:
        """`weights.safetensors` (network and standardisation) and `<name>.json`."""
        tensors = {f"net.{k}": v.cpu().contiguous() for k, v in self._net.state_dict().items()}
        tensors["scaler.mean"] = torch.from_numpy(self._scaler.mean)
        tensors["scaler.std"] = torch.from_numpy(self._scaler.std)
        save_file(tensors, folder / "weights.safetensors")
        targets = [{"name": t.name, "classes": t.classes} for t in self._targets]
        write_json(
            folder / f"{self.name}.json",
            {"options": stored_options(self), "targets": targets, **self._layout},
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """See `Learner.load`."""
        stored = read_json(folder / f"{cls.name}.json")
        learner = cls(**stored.pop("options"))
        targets = stored.pop("targets")
        learner._targets = tuple(Target(t["name"], tuple(t["classes"])) for t in targets)
        learner._layout = stored
        tensors = load_file(folder / "weights.safetensors")
        learner._scaler = Standardiser(
            tensors.pop("scaler.mean").numpy(), tensors.pop("scaler.std").numpy()
        )
        # Initial weights are drawn and thrown away: the caller's random state must not notice.
        with private_random_state(torch.device("cpu"), 0):
            learner._net = learner._new_net()
        learner._net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items()})
        learner._net.to(find_device(learner.device, fallback=True)).eval()
        return learner

    @property
    def _outputs(self) -> int:
        return sum(len(t.outputs) for t in self._targets)

    def _new_net(self) -> nn.Module:
        return self.new_net(self._layout, self._outputs)

    def _check_options(self) -> None:
        for option, least in self.at_least.items():
            require_number(option, getattr(self, option), least)
        for option in ("dropout", "view_dropout"):
            require_number(option, getattr(self, option), 0.0, 1.0, below=True)
        for option in ("lr", "weight_decay", "memory_limit"):
            require_number(option, getattr(self, option), 0.0)
        for option, allowed in self.choices.items():
            if getattr(self, option) not in allowed:
                raise ConfigError(
                    f"{option} is {getattr(self, option)!r}, expected one of {', '.join(allowed)}"
                )
