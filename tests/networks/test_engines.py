"""What all engines hold to, and torch as one of them."""

import importlib
import importlib.metadata
import logging

import numpy as np
import pytest
import torch
from odd_networks import MovesStatistics, Tiny, TurnsItselfOn

from mvp.config import ExtractConfig, NetworkConfig, TextConfig
from mvp.errors import ConfigError, MissingExtraError, MvpError
from mvp.networks import Capture, Network, inference
from mvp.networks.engines import (
    base,
    choice,
    choose_engine,
    engine_versions,
    exported,
    open_engine,
)
from mvp.networks.text import build_text

CPU, CUDA = torch.device("cpu"), torch.device("cuda")

# Since torch 2.9.
TORCH_SAYS_PRECISION = hasattr(torch.backends.cudnn, "conv")


def images(number, size=16):
    return torch.rand(number, 3, size, size, generator=torch.Generator().manual_seed(1))


def tiny(kind=Tiny):
    torch.manual_seed(0)
    return Network("tiny", kind().eval(), "fc")


def opened(network, config=None, device=CPU, example=None, **settings):
    example = images(2) if example is None else example
    config = config or NetworkConfig()
    return open_engine(network, config, ExtractConfig(**settings), device, example)


def hooked(network, batch):
    with inference(network), Capture(network) as capture:
        return capture(batch).numpy()


def test_torch_gives_what_the_hook_gives_whatever_the_batch():
    network, batch = tiny(), images(16)
    with opened(network) as engine:
        whole = engine(batch)
        one_by_one = np.concatenate([engine(batch[i : i + 1]) for i in range(16)])
        assert np.array_equal(engine(batch), whole)
    assert engine.name == "torch"
    assert whole.dtype == np.float32
    assert whole.shape == (16, 8)
    np.testing.assert_allclose(whole, hooked(network, batch), rtol=1e-5)
    np.testing.assert_allclose(one_by_one, whole, rtol=1e-5)


def test_bfloat16_rounds_and_is_stored_as_float32():
    network, batch = tiny(), images(4)
    with opened(network, precision="bfloat16") as engine:
        rounded = engine(batch)
    exact = hooked(network, batch)
    gap = np.abs(rounded - exact).max() / np.abs(exact).max()
    assert rounded.dtype == np.float32
    assert 1e-5 < gap < 2e-2


def test_float16_is_for_cuda_alone():
    with pytest.raises(ConfigError, match='cannot be had on the device "cpu"'):
        opened(tiny(), precision="float16").__enter__()


NEW = [torch.backends.cuda.matmul, torch.backends.cudnn.conv] if TORCH_SAYS_PRECISION else []


def said():
    """How exactly convolutions and products are computed, in torch's newer words or its older."""
    if TORCH_SAYS_PRECISION:
        return [place.fp32_precision for place in NEW]
    return [torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()]


FULL = ["ieee", "ieee"] if TORCH_SAYS_PRECISION else [False, "highest"]


@pytest.mark.parametrize("newer", [False, True])
def test_float32_is_never_computed_in_ten_bits(newer):
    if newer and not TORCH_SAYS_PRECISION:
        pytest.skip("this torch has no fp32_precision")
    seen = []

    class Spy(Tiny):
        def forward(self, x):
            seen.append(said())
            return super().forward(x)

    if newer:  # as a caller may have said it; torch then refuses to read the older way
        for place in NEW:
            place.fp32_precision = "tf32"
    else:
        torch.set_float32_matmul_precision("high")
    before = said()
    try:
        with opened(tiny(Spy)) as engine:
            engine(images(2))
        assert seen == [FULL]
        assert said() == before != FULL
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    ("kind", "what"), [(TurnsItselfOn, "training mode"), (MovesStatistics, "buffers")]
)
def test_a_network_that_changes_is_an_error(kind, what):
    with pytest.raises(MvpError, match=what), opened(tiny(kind)) as engine:
        engine(images(2))


def test_engines_close_in_any_order_and_leave_torch_as_it_was():
    first, second = opened(tiny()), opened(tiny())
    engine, other = first.__enter__(), second.__enter__()
    before = engine(images(2))
    assert not torch.is_inference_mode_enabled()
    first.__exit__(None, None, None)
    assert np.array_equal(other(images(2)), before)
    second.__exit__(None, None, None)
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


def test_modes_and_hooks_are_put_back():
    network = tiny()
    network.module.train()
    with opened(network):
        assert not network.module.training
    assert network.module.norm.training
    assert not network.head._forward_hooks


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_what_the_network_cannot_take_is_the_networks_error(engine):
    wrong = torch.rand(2, 5, 16, 16)
    with (
        pytest.raises(ConfigError, match="cannot take a batch of shape"),
        opened(tiny(), engine=engine, example=wrong) as runs,
    ):
        runs(wrong)


def test_auto_is_no_engine():
    with pytest.raises(ValueError, match="choose_engine"):
        opened(tiny(), engine="auto").__enter__()


def test_onnxruntime_is_for_images_on_a_cpu():
    with pytest.raises(ConfigError, match='the device "cuda"'):
        opened(tiny(), engine="onnxruntime", device=CUDA).__enter__()
    text = build_text(TextConfig(), None)
    with pytest.raises(ConfigError, match="texts are read by torch only"):
        opened(text, engine="onnxruntime", example=torch.ones(2, 20, dtype=torch.int64)).__enter__()


def without(monkeypatch, absent):
    find = exported.importlib.util.find_spec
    monkeypatch.setattr(
        exported.importlib.util, "find_spec", lambda n: None if n == absent else find(n)
    )


@pytest.mark.parametrize("absent", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_library_names_the_extra(monkeypatch, absent):
    without(monkeypatch, absent)
    with pytest.raises(MissingExtraError, match=rf"'{absent}', which is not.*\[onnx\]"):
        opened(tiny(), engine="onnxruntime").__enter__()


def chosen(number, network=None, device=CPU, example=None):
    example = images(2) if example is None else example
    network, settings = network or tiny(), ExtractConfig(engine="auto")
    return choose_engine(network, NetworkConfig(), settings, device, example, number)


def never(*args):
    raise AssertionError("exported for nothing")


def speeds(monkeypatch, torch_s, onnx_s):
    """How long one batch of 32 takes, without looking at the clock."""

    class Fast:
        name = "onnxruntime"

        def __call__(self, batch):
            return None

    class Opened:
        def __enter__(self):
            return Fast()

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(choice, "onnx_engine", lambda *args: Opened())
    monkeypatch.setattr(choice, "_seconds", lambda e, b: torch_s if e.name == "torch" else onnx_s)


def test_auto_exports_nothing_for_few_images_on_a_gpu_or_for_texts(monkeypatch):
    monkeypatch.setattr(choice, "onnx_engine", never)
    assert chosen(10) == "torch"
    assert chosen(10**9, device=CUDA) == "torch"
    texts = torch.ones(2, 20, dtype=torch.int64)
    assert chosen(10**9, build_text(TextConfig(), None), example=texts) == "torch"


def test_auto_is_the_faster_one(monkeypatch):
    speeds(monkeypatch, torch_s=1.0, onnx_s=0.5)
    assert chosen(10_000) == "onnxruntime"
    assert chosen(32 * 10) == "torch"  # ten seconds
    speeds(monkeypatch, torch_s=1.0, onnx_s=1.5)
    assert chosen(10_000) == "torch"


def test_auto_counts_the_time_of_the_export(monkeypatch):
    speeds(monkeypatch, torch_s=1.0, onnx_s=0.9)
    clock = iter([0.0, 100.0])
    monkeypatch.setattr(choice.time, "perf_counter", lambda: next(clock))
    assert chosen(32 * 900) == "torch"  # 90 s saved, 100 s for the export
    clock = iter([0.0, 100.0])
    assert chosen(32 * 1100) == "onnxruntime"


def test_auto_is_torch_and_says_why_where_onnxruntime_cannot(monkeypatch, caplog):
    monkeypatch.setattr(choice, "WORTH_TRYING_S", 0.0)
    without(monkeypatch, "onnxscript")
    with caplog.at_level(logging.INFO, "mvp"):
        assert chosen(10_000) == "torch"
    assert '"auto" is torch' in caplog.text
    assert "'onnxscript', which is not installed" in caplog.text


def test_auto_is_torch_where_onnxruntime_fails_at_work(monkeypatch, caplog):
    speeds(monkeypatch, torch_s=1.0, onnx_s=0.5)

    def seconds(engine, batch):
        if engine.name == "torch":
            return 1.0
        raise MvpError("onnxruntime failed on a batch")

    monkeypatch.setattr(choice, "_seconds", seconds)
    with caplog.at_level(logging.INFO, "mvp"):
        assert chosen(10_000) == "torch"
    assert "onnxruntime failed" in caplog.text


def test_versions_are_those_of_what_runs(monkeypatch):
    assert engine_versions("torch") == {}
    assert engine_versions("torch", compiled=True) != {}
    versions = engine_versions("onnxruntime")
    assert set(versions) == {"onnxruntime", "onnx", "onnxscript"}

    version = importlib.metadata.version

    def absent(library):
        if library == "onnxruntime":
            raise importlib.metadata.PackageNotFoundError(library)
        return version(library)

    # As where onnxruntime-gpu is installed, which brings the same module.
    monkeypatch.setattr(importlib.metadata, "version", absent)
    assert engine_versions("onnxruntime") == versions


def test_the_exporter_is_not_loaded_to_be_named(monkeypatch):
    load = importlib.import_module
    monkeypatch.setattr(
        base.importlib, "import_module", lambda n: never() if n == "onnxscript" else load(n)
    )
    assert engine_versions("onnxruntime")["onnxscript"] == importlib.metadata.version("onnxscript")


@pytest.mark.parametrize(
    "settings",
    [
        {"engine": "onnxruntime", "precision": "bfloat16"},
        {"engine": "auto", "precision": "float16"},
        {"engine": "auto", "compile": True},
    ],
)
def test_settings_of_torch_need_torch(settings):
    with pytest.raises(ValueError, match="needs engine = 'torch'"):
        ExtractConfig(**settings)
