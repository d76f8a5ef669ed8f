"""Rows and numbers that the tests of this room store."""

import hashlib

import numpy as np

from mvp.features import FeatureKey, FeatureStore, Writer, row_id
from mvp.files import digest_bytes

KEY = FeatureKey("frontal", "a" * 32, "small", "pool", "avg", "b" * 32)
WIDTH = 3


def ids(numbers):
    return [row_id(digest_bytes(b"image %d" % n)) for n in numbers]


def numbers_of(rows, width=WIDTH):
    """(row, width): what the network gives for a row, whoever asks."""
    seeds = [int.from_bytes(hashlib.blake2b(r, digest_size=4).digest(), "big") for r in rows]
    drawn = [np.random.default_rng(s).normal(size=width) for s in seeds]
    return np.array(drawn, np.float32).reshape(-1, width)


def opened(root, key=KEY, **options):
    return FeatureStore(root, **options).open(key)


def fill(store, rows, unit_rows=4, rejected=(), stop=None, width=WIDTH, **settings):
    """Extract as the stage does, up to `stop` units; gives the units computed."""
    done = []
    with Writer(store) as writer:
        tasks = writer.plan(rows, width, unit_rows, {}, **settings)[:stop]
        while tasks:
            for task in writer.claimed(tasks):
                values = numbers_of(task.rows, width)
                wrong = {i: "damaged" for i, row in enumerate(task.rows) if row in set(rejected)}
                values[list(wrong)] = np.nan
                if writer.commit(task, values, wrong):
                    done.append(task.unit)
            tasks = writer.still_open(tasks)
            if tasks:
                writer.pause()
    store.refresh()
    return done


def files_of(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def flip(path, place=-7):
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)
