"""State dicts out of files from strangers, and whether they fit a network.

Nothing here runs code that a file brings along.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mvp.errors import ConfigError
from mvp.networks.catalogue import AUXILIARY

WRAPPERS = ("state_dict", "model")
PARALLEL = "module."
COUNTER = "num_batches_tracked"  # absent from files older than torch 0.4.1; decides no number
OLD_DENSENET = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)")
SHOWN = 4


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pt or .pth file on the CPU, in the file's order.

    A "state_dict" or "model" around them and the "module." of data-parallel training are
    taken off.

    Raises:
        ConfigError: no such file, not a state dict, or a pickle that needs code to be read.
    """
    if not path.is_file():
        raise ConfigError(
            "there is no weights file here", path=path, remedy="correct network.weights"
        )
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ConfigError(
            "the weights file is damaged or no safetensors file", path=path, cause=str(error)
        ) from error
    # A stranger's pickle may fail in any way; none of them may run code or show a traceback.
    except Exception as error:
        raise ConfigError(
            "the weights file cannot be read safely",
            path=path,
            cause="it is damaged, or it is a pickle that needs code to be read "
            f"({type(error).__name__})",
            remedy="save only the tensors, with torch.save(model.state_dict(), path) or "
            "safetensors.torch.save_file",
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if (
        not isinstance(state, Mapping)
        or not state
        or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
    ):
        raise ConfigError(
            "the weights file holds no state dict",
            path=path,
            cause="it should map names to tensors",
            remedy="save it with torch.save(model.state_dict(), path)",
        )
    if all(name.startswith(PARALLEL) for name in state):
        return {name.removeprefix(PARALLEL): value for name, value in state.items()}
    return dict(state)


def fit_state(
    state: dict[str, Tensor],
    module: nn.Module,
    classifier: str | None,
    *,
    by_position: bool,
    path: Path,
) -> dict[str, Tensor]:
    """Those tensors of a state that a module takes, under the module's names.

    All names and shapes must agree, save the classifier's: where it has another shape or is
    absent, it is left out of what is returned.

    Args:
        state: tensors by name, in the file's order.
        module: the network with its native classifier.
        classifier: the classifier's dotted name.
        by_position: take the tensors in order and ignore what they are called; the last part of
            each name (weight, bias, running_mean, …) must still agree.
        path: the file, for errors.

    Raises:
        ConfigError: names or shapes differ; the remedy names by-position where that would fit.
    """
    own = module.state_dict()
    state = _modernised(state, own)
    head = {n for n in own if classifier is not None and n.startswith(f"{classifier}.")}
    if by_position:
        renamed = _by_position(state, own, head)
        if renamed is None:
            raise ConfigError(
                "the tensors of the weights file do not fit in order",
                path=path,
                cause=f"the file has {len(state)}, the network {len(own)}, or their kinds or "
                "shapes differ",
                remedy='weights of this very network, or network.weights_order = "by-name"',
            )
        state = renamed
    missing = [n for n in own if n not in state and not n.endswith(COUNTER)]
    unexpected = [n for n in state if n not in own]
    if unexpected or set(missing) - head:
        raise ConfigError(
            "the names in the weights file are not the network's",
            path=path,
            cause=f"missing {_some(missing)}; unexpected {_some(unexpected)}",
            remedy='the tensors fit in order: set network.weights_order = "by-position"'
            if _by_position(state, own, head) is not None
            else "set network.name to the network that these weights belong to",
        )
    differing = {n for n in state if state[n].shape != own[n].shape}
    if differing - head:
        worst = sorted(differing - head)
        raise ConfigError(
            "the shapes in the weights file are not the network's",
            path=path,
            cause="; ".join(
                f"{n} is {tuple(state[n].shape)}, should be {tuple(own[n].shape)}"
                for n in worst[:SHOWN]
            ),
            remedy="set network.name to the network that these weights belong to",
        )
    without = head if differing or missing else set()
    return {n: value for n, value in state.items() if n not in without}


def _modernised(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names and shapes that files go by in a network's own.

    DenseNet's old names, auxiliary classifiers that the network lacks, and 1x1 convolutions where
    it has a linear layer (SqueezeNet's classifier).
    """
    fitted = {}
    for name, value in state.items():
        if name.split(".")[0] in AUXILIARY and name not in own:
            continue
        old = OLD_DENSENET.fullmatch(name)
        fits = name in own and own[name].ndim == 2 and tuple(value.shape[2:]) == (1, 1)
        new = old[1] + old[2] if old and name not in own else name
        fitted[new] = value.flatten(1) if fits else value
    return fitted


def _by_position(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], head: set[str]
) -> dict[str, Tensor] | None:
    """The state under the network's names if every tensor fits in order, else None."""
    theirs = [n for n in state if not n.endswith(COUNTER)]
    ours = [n for n in own if not n.endswith(COUNTER)]
    fits = len(theirs) == len(ours) and all(
        a.rpartition(".")[2] == b.rpartition(".")[2]
        and (state[a].shape == own[b].shape or b in head)
        for a, b in zip(theirs, ours, strict=True)
    )
    return {b: state[a] for a, b in zip(theirs, ours, strict=True)} if fits else None


def _some(names: list[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
