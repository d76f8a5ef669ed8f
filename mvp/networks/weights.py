"""A network's weights: their digest, and safe files that hold them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mvp.errors import ConfigError
from mvp.files import digest_bytes, digest_json, replacing
from mvp.networks.network import Network


def tensor_digest(tensor: Tensor) -> str:
    """The digest of a tensor's values in row-major order, whatever its memory format."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return digest_bytes(flat.view(torch.uint8).numpy().data)


def weights_digest(network: Network, *, without_classifier: bool) -> str:
    """The 128-bit BLAKE2b digest of all parameters and persistent buffers.

    It covers names, types, shapes and values in sorted name order, so neither memory format nor
    device changes it.

    Args:
        network: whose weights.
        without_classifier: leave the classifier out, as when features are taken before it: two
            heads on one body see the same features.
    """
    head = f"{network.classifier}." if without_classifier and network.classifier else None
    return digest_json(
        [
            [name, str(value.dtype), list(value.shape), tensor_digest(value)]
            for name, value in sorted(network.module.state_dict().items())
            if head is None or not name.startswith(head)
        ]
    )


def save_weights(network: Network, path: Path) -> None:
    """Publish the state dict as safetensors, whole or not at all."""
    # Cloned: safetensors refuses tensors that share memory.
    state = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in network.module.state_dict().items()
    }
    with replacing(path) as partial:
        save_file(state, partial, metadata={"network": network.name})


def load_weights(network: Network, path: Path) -> None:
    """Load a file of `save_weights` into a network of the same name and number of outputs.

    Raises:
        ConfigError: no such file, a damaged one, or one of another network; nothing is loaded.
    """
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise ConfigError(
            "there is no weights file here",
            path=path,
            remedy="train the view's network first: mvp finetune",
        ) from None
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            "the weights file is damaged",
            path=path,
            cause=str(error),
            remedy="remove it and train the view's network again",
        ) from error
    own = network.module.state_dict()
    wrong = [
        name
        for name in sorted(own.keys() | state.keys())
        if name not in own or name not in state or own[name].shape != state[name].shape
    ]
    if wrong:
        raise ConfigError(
            f"the weights file does not fit network {network.name!r}",
            path=path,
            cause=f"names or shapes differ: {', '.join(wrong[:4])}",
            remedy="set network.name and the view's labels back to what was trained, or train "
            "again",
        )
    network.module.load_state_dict(state)
