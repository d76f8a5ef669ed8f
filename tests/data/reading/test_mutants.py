"""Files whose bytes came to harm: each is an image or one error, quickly, in little memory."""

import os
import resource
import time
from pathlib import Path

import numpy as np
import pytest

from mvp.config import parse_config
from mvp.data.reading import decoding_pool
from mvp.data.reading.decoding import decode, examine
from mvp.data.reading.decoding_pool import Pool
from mvp.data.reading.limits import Limits
from mvp.data.tables.manifest import load_manifest
from mvp.data.tables.table import read_table
from mvp.errors import ConfigError, DataError, ImageError, MvpError
from tests.data.reading.mutants import images, mutant, tables

pytest.importorskip("pydicom")
pytest.importorskip("nibabel")
pytestmark = pytest.mark.filterwarnings("ignore")

LONGEST_SECONDS = 5.0
MOST_BYTES = 1 << 30
TOML = """
protocol = "frozen"
[data]
table = "table.csv"
[views.frontal]
aliases = ["PA"]
[views.lateral]
aliases = ["LL"]
[labels.finding]
"""


def resident(pid="self"):
    """The most memory that a process ever had at a time, in bytes; 0 of one that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(s.split()[1]) << 10 for s in lines if s.startswith("VmHWM")), 0)


def spent(pool):
    """Processor time of all decoders, in seconds: other work on this machine does not count."""
    dead = resource.getrusage(resource.RUSAGE_CHILDREN)
    ticks = 0
    for pid in pool.processes:
        ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[11:13]))
    return dead.ru_utime + dead.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def pool(monkeypatch):
    own = Pool()
    monkeypatch.setattr(decoding_pool._process, "pool", own)
    yield own
    own.close()


def one_line(error):
    assert len(str(error).splitlines()) == 1
    assert str(error).isprintable()


def batter_images(folder, pool, count, seed):
    """Counts, worst time and worst memory of `count` mutated images."""
    seeds = images()
    others = [whole for _, whole in seeds]
    rng = np.random.default_rng(seed)
    largest_before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss

    def made():
        for i in range(count):
            suffix, whole = seeds[i % len(seeds)]
            yield i, suffix, mutant(whole, suffix, others, rng)

    def one(item):
        i, suffix, data = item
        path = folder / f"{i % 64}{suffix}"
        path.write_bytes(data)
        before = spent(pool)
        try:
            content = examine(str(path), Limits())
            error = content.error
            if i % 10 == 0 and error is None:
                assert decode(str(path), Limits()).stack.pixels.shape[1:] == content.shape
        except MvpError as raised:
            error = raised
        seconds = spent(pool) - before
        if error is not None:
            assert isinstance(error, ImageError), error
            one_line(error)
        return error, seconds

    # Whole ones first: loading a library is not what a mutant costs.
    for i, seed in enumerate(seeds):
        assert one((i, *seed))[0] is None
    found, most, start = [], 0, time.perf_counter()
    for item in made():
        found.append(one(item))
        most = max([most, *map(resident, pool.processes)])
    pool.close()
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    # Between fork and exec a child is as large as its parent, and that counts as its own.
    if largest > largest_before and largest << 10 > resident():
        most = max(most, largest << 10)
    errors = [error for error, _ in found if error is not None]
    return {
        "files": len(found),
        "decoded": len(found) - len(errors),
        "rejected": len(errors),
        "died": sum("died" in error.what for error in errors),
        "memory": sum("memory" in error.what for error in errors),
        "too slow": sum("seconds" in e.what or "more time" in e.what for e in errors),
        "seconds": round(time.perf_counter() - start, 1),
        "worst seconds": round(max(seconds for _, seconds in found), 2),
        "worst megabytes": most >> 20,
    }


def batter_tables(folder, count, seed):
    """The same of `count` mutated tables, read here and made a manifest of."""
    seeds = tables()
    others = [whole for _, whole in seeds]
    rng = np.random.default_rng(seed)
    read, refused, worst, start = 0, 0, 0.0, time.perf_counter()
    for i in range(count):
        suffix, whole = seeds[i % len(seeds)]
        path = folder / f"table{suffix}"
        path.write_bytes(mutant(whole, suffix, others, rng))
        config = parse_config(TOML.replace("table.csv", path.name), folder / "mvp.toml")
        before = time.process_time()
        try:
            read_table(path)
            load_manifest(config, folder)
            read += 1
        except (DataError, ConfigError) as error:
            one_line(error)
            refused += 1
        worst = max(worst, time.process_time() - before)
    return {
        "files": count,
        "read": read,
        "refused": refused,
        "seconds": round(time.perf_counter() - start, 1),
        "worst seconds": round(worst, 2),
    }


def battery(folder, pool, number_of_images, number_of_tables, seed):
    before = resident()
    of_images = batter_images(folder, pool, number_of_images, seed)
    of_tables = batter_tables(folder, number_of_tables, seed)
    print(of_images, of_tables)
    assert of_images["died"] == 0  # so that every decoder was there to be measured
    for told in (of_images, of_tables):
        assert told["worst seconds"] < LONGEST_SECONDS
    assert of_images["decoded"] > number_of_images // 20
    assert of_images["rejected"] > number_of_images // 3
    assert of_tables["read"] > number_of_tables // 20
    assert of_tables["refused"] > number_of_tables // 20
    assert of_images["worst megabytes"] << 20 < MOST_BYTES
    assert resident() - before < MOST_BYTES


def test_some_hundred_mutants(tmp_path, pool):
    battery(tmp_path, pool, 450, 150, seed=1)


@pytest.mark.slow
def test_twenty_thousand_mutants(tmp_path, pool):
    battery(tmp_path, pool, 17_000, 3_000, seed=2)
