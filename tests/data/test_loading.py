"""Images loaded ahead: one decoding for all that is wanted of a file, and no waiting at the end."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch

from mvp.config import TransformConfig
from mvp.data.loading import Request, load_instances, prepare_instances
from mvp.data.reading import decoding_pool
from mvp.data.reading.decoding import decode
from mvp.data.reading.decoding_pool import Errand, Pool
from mvp.data.reading.limits import Limits
from mvp.data.transforms import Transform
from mvp.errors import ImageError
from tests.data import odd_library
from tests.data.reading.test_decoding import gone
from tests.data.test_ahead import eventually

TRANSFORM = Transform(TransformConfig(size=8))
PATIENT = Limits(max_seconds=1000)


@pytest.fixture
def pool(tmp_path, monkeypatch):
    """Decoders of this test alone, whose NIfTI library misbehaves on command."""
    monkeypatch.syspath_prepend(odd_library.install(tmp_path / "library"))
    own = Pool()
    monkeypatch.setattr(decoding_pool._process, "pool", own)
    yield own
    own.close()


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "volume.npy"
    np.save(path, np.random.default_rng(0).integers(0, 255, (3, 20, 16), np.uint8))
    return str(path)


def test_instances_of_one_decoding_are_those_that_are_loaded(volume):
    found = prepare_instances(decode(volume, Limits()), (2, 0, 7), TRANSFORM, volume)
    loaded = list(load_instances([Request(volume, None, (0, 2))], TRANSFORM, Limits(), 1, 8))
    assert torch.equal(found[0], loaded[1])
    assert torch.equal(found[1], loaded[0])
    assert isinstance(found[2], ImageError)
    assert found[2].path == volume


def test_loading_that_is_dropped_waits_for_no_file(tmp_path, pool, volume):
    slow = odd_library.order(tmp_path / "a.nii", "sleep")
    requests = [Request(volume, None, (0,)), Request(slow, None, (0,))]
    images = load_instances(requests, TRANSFORM, PATIENT, 2, 8)
    assert isinstance(next(images), torch.Tensor)
    assert eventually(lambda: len(pool._deadlines) == 1)
    (busy,) = [decoder.process.pid for decoder in pool._deadlines]
    images.close()
    assert gone([busy], 5)


def test_nothing_is_asked_for_an_errand_that_has_ended(tmp_path, pool, volume):
    errand = Errand()
    assert decode(volume, PATIENT, errand=errand).total == 3
    pool.end(errand)
    pids = pool.processes
    with pytest.raises(ImageError, match="given up"):
        decode(odd_library.order(tmp_path / "a.nii", "sleep"), PATIENT, errand=errand)
    assert pool.processes == pids
    assert decode(volume, PATIENT).total == 3


@pytest.mark.slow
def test_an_interrupt_waits_for_no_file(tmp_path, volume):
    slow = odd_library.order(tmp_path / "a.nii", "sleep")
    path = tmp_path / "script.py"
    path.write_text(
        textwrap.dedent("""
            import sys
            from mvp.config import TransformConfig
            from mvp.data.loading import Request, load_instances
            from mvp.data.reading.decoding_pool import pool
            from mvp.data.reading.limits import Limits
            from mvp.data.transforms import Transform
            sys.path.insert(0, sys.argv[1])
            requests = [Request(file, None, (0,)) for file in sys.argv[2:]]
            transform = Transform(TransformConfig(size=8))
            for _ in load_instances(requests, transform, Limits(max_seconds=1000), 2, 8):
                print(*pool().processes, flush=True)
        """)
    )
    library = odd_library.install(tmp_path / "library")
    process = subprocess.Popen(
        [sys.executable, str(path), str(library), volume, slow],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    pids = [int(pid) for pid in process.stdout.readline().split()]
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=20)[1]
    assert "KeyboardInterrupt" in err
    assert gone(pids)
