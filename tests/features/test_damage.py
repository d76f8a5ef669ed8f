"""Whatever happens to a stored byte: it is found, named, and costs one unit at most."""

import dataclasses
import random
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from cached import KEY, files_of, fill, ids, numbers_of

from mvp.errors import StoreDamagedError
from mvp.features import FeatureKey, FeatureStore, KeyStore
from mvp.features.verify import verify

HALF = dataclasses.replace(KEY, dtype="float16")
COLD = dataclasses.replace(KEY, weights="c" * 32)
GOLDEN = np.array([[1.0, -2.0, 0.25], [0.5, 0.0, 3.0]], np.float32)
HERE = {"torch": "1", "device": "cpu"}
UNIT_ROWS = 4


@dataclass(frozen=True)
class Extraction:
    """One extraction of one key; `rejected` are numbers of rows that cannot be read."""

    key: FeatureKey
    numbers: range
    rejected: tuple[int, ...] = ()
    compression: str = "none"


EXTRACTIONS = [
    Extraction(KEY, range(11), (2, 10)),  # several units, the last one shorter
    Extraction(KEY, range(20, 21)),  # a single row
    Extraction(KEY, range(30, 35), (30, 31, 32)),  # a unit of nothing but rejected rows
    Extraction(HALF, range(6), (3,)),
    Extraction(COLD, range(6), (0,), "zstd"),
]
REJECTED = {
    e.key: ids([n for o in EXTRACTIONS if o.key == e.key for n in o.rejected]) for e in EXTRACTIONS
}
ROWS = {
    e.key: ids([n for o in EXTRACTIONS if o.key == e.key for n in o.numbers]) for e in EXTRACTIONS
}
COMPRESSION = {e.key: e.compression for e in EXTRACTIONS}


def extract(store, rows, **more):
    """What the stage does: known rejects are set aside."""
    key = store.key
    rows = [r for r in rows if r not in store and r not in store.rejected]
    settings = {"rejected": REJECTED[key], "compression": COMPRESSION[key], **more}
    return fill(store, rows, UNIT_ROWS, **settings) if rows else []


def build(root, extractions=tuple(EXTRACTIONS), **more):
    for one in extractions:
        store = FeatureStore(root).open(one.key)
        store.agree_with_golden(HERE, lambda: GOLDEN, 1e-4)
        extract(store, ids(one.numbers), **more)
    return files_of(root)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder that every test leaves as it found it, and its files."""
    root = tmp_path_factory.mktemp("whole")
    return root, build(root)


def truth(key, rows):
    return numbers_of(rows).astype(key.dtype).astype(np.float32)


def read_all(root, key):
    """Rows that are read right, by unit, and whether anything said that it is damaged."""
    try:
        store = FeatureStore(root).open(key)
    except StoreDamagedError:
        return set(), True
    right, said = set(), bool(store.problems)
    for segment in store.segments:
        for unit in range(segment.units):
            rows = [row for row in segment.unit_rows(unit) if row in store]
            try:
                np.testing.assert_array_equal(store.read(rows), truth(key, rows))
                right |= set(rows)
            except StoreDamagedError:
                said = True
    for row in set(ROWS[key]) - set(REJECTED[key]) - right:
        try:
            store.read([row])
        except StoreDamagedError:
            said = True
        except KeyError:
            assert not store.problems  # never taken for a row that was not extracted
    return right, said


def parts(name):
    """Key, segment and unit that a file belongs to, and what it is called in there."""
    view, digest, *rest = name.split("/")
    key = next(k for k in ROWS if (k.view, k.digest) == (view, digest))
    if rest[0] != "segments":
        return key, "", None, rest[0]
    inner = "/".join(rest[2:])
    unit = None
    if inner.startswith("ledger/"):
        unit = int(inner.removeprefix("ledger/").removesuffix(".json"))
    if inner.startswith("features/c."):
        unit = int(inner.split(".")[1])
    return key, rest[1], unit, inner


def survives(root, before, name, hurt):
    """Damage a file, look, mend, and compare with what was; gives whether a read said so."""
    key, segment, unit, inner = parts(name)
    chunk = inner.startswith("features/c.")
    path = root / name
    rows_hurt = set(ROWS[key])
    if segment:
        store = FeatureStore(root).open(key)
        (one,) = [s for s in store.segments if s.name == segment]
        rows_hurt = set(one.rows if unit is None else one.unit_rows(unit))
    good = set(ROWS[key]) - set(REJECTED[key])
    hurt(path)

    right, said = read_all(root, key)
    store = FeatureStore(root)
    findings = verify(KeyStore(store.storage, f"{key.view}/{key.digest}", key))
    assert said or findings
    assert findings, "verifying finds everything"
    if segment:
        assert {(f.segment, f.unit) for f in findings} == {(segment, unit)}
        assert right >= good - rows_hurt
    assert all(f.text.isprintable() and f.what for f in findings)
    if chunk and rows_hurt & good:
        assert said, "readers never give other numbers than those that were stored"

    opened = store.open(key, mend=True)
    opened.agree_with_golden(HERE, lambda: GOLDEN, 1e-4)
    opened.discard_damaged(deep=True)
    computed = extract(opened, ROWS[key])
    assert computed == ([unit] if chunk else [])
    assert files_of(root) == before
    assert verify(FeatureStore(root).open(key)) == []
    return said


def flipper(place, bit):
    def hurt(path):
        data = bytearray(path.read_bytes())
        data[place] ^= 1 << bit
        path.write_bytes(data)

    return hurt


def cutter(length):
    return lambda path: path.write_bytes(path.read_bytes()[:length])


def test_an_undamaged_store_has_nothing_to_say(whole):
    root, before = whole
    for key, rows in ROWS.items():
        right, said = read_all(root, key)
        assert right == set(rows) - set(REJECTED[key])
        assert not said
        store = FeatureStore(root).open(key)
        assert verify(store) == []
        assert store.discard_damaged(deep=True) == 0
        assert set(store.rejected) == set(REJECTED[key])
    assert files_of(root) == before
    assert not any("claims" in name for name in before)


def test_every_single_file_may_be_lost(whole):
    root, before = whole
    for name in before:
        survives(root, before, name, lambda path: path.unlink())
    assert len(before) > 40


def test_every_single_file_may_be_emptied_or_overwritten(whole):
    root, before = whole
    for name in before:
        survives(root, before, name, cutter(0))
        survives(root, before, name, lambda path: path.write_bytes(b"\0" * path.stat().st_size))


@pytest.mark.parametrize("key", list(ROWS), ids=["float32", "float16", "zstd"])
def test_a_unit_may_be_cut_anywhere(whole, key):
    root, before = whole
    folder = f"{key.view}/{key.digest}/segments"
    name = next(n for n in before if n.startswith(folder) and "features/c.1." in n)
    for length in range(len(before[name])):
        assert survives(root, before, name, cutter(length))


def test_every_other_file_may_be_cut_anywhere(whole):
    """At five places each; a unit is cut at every byte above."""
    root, before = whole
    drawn = random.Random(5)
    names = [n for n in before if n.startswith(f"{KEY.view}/{KEY.digest}") and "/c." not in n]
    for name in drawn.sample(names, 12):
        for length in drawn.sample(range(len(before[name])), 5):
            survives(root, before, name, cutter(length))


def flip_many(whole, count, seed):
    root, before = whole
    drawn, names = random.Random(seed), sorted(before)
    sizes = [len(before[name]) for name in names]
    said = 0
    for i in range(count):
        # Half of them in any file, half where the bytes are.
        name = drawn.choice(names) if i % 2 else drawn.choices(names, sizes)[0]
        place, bit = drawn.randrange(len(before[name])), drawn.randrange(8)
        said += survives(root, before, name, flipper(place, bit))
    return said


def test_a_hundred_flipped_bits_are_found_one_by_one_and_mended(whole):
    assert flip_many(whole, 100, seed=1) > 0


@pytest.mark.slow
def test_a_thousand_flipped_bits_are_found_one_by_one_and_mended(whole):
    assert flip_many(whole, 1000, seed=2) > 0


def test_many_things_at_once_cost_their_units_and_no_more(whole, tmp_path):
    root, before = tmp_path / "s", whole[1]
    shutil.copytree(whole[0], root)
    names = [n for n in before if n.startswith(f"{KEY.view}/{KEY.digest}/")]
    store = FeatureStore(root).open(KEY)
    units = sum(segment.units for segment in store.segments)
    chunks = [n for n in names if "features/c." in n]
    for name in chunks[:2]:
        flipper(3, 3)(root / name)
    for name in names:
        if name.endswith(("zarr.json", "sealed.json", "key.json", "golden.json")):
            flipper(20, 1)(root / name)
    (root / chunks[-1]).unlink()
    assert verify(KeyStore(store.storage, store.folder, KEY))
    store = FeatureStore(root).open(KEY, mend=True)
    store.agree_with_golden(HERE, lambda: GOLDEN, 1e-4)
    assert store.discard_damaged(deep=True) == 3 < units
    assert len(extract(store, ROWS[KEY])) == 3
    assert files_of(root) == before


def test_damage_in_an_extraction_that_was_broken_off(tmp_path):
    """No seal repeats what was promised: a lost promise costs its unit, a lost plan nothing."""
    one = [Extraction(KEY, range(11), (2, 10))]
    before = build(tmp_path / "whole", one)
    cut = build(tmp_path / "cut", one, stop=2)
    assert len(before) - len(cut) == 3  # a chunk, its promise, the seal
    for number, name in enumerate(cut):
        for what in (lambda p: p.unlink(), flipper(11, 4), cutter(9)):
            root = tmp_path / f"{number}"
            shutil.copytree(tmp_path / "cut", root)
            _, _, unit, inner = parts(name)
            what(root / name)
            read_all(root, KEY)
            # A promise that is lost altogether cannot be told from one that was never made.
            if (root / name).exists() or "ledger/" not in inner:
                assert verify(KeyStore(FeatureStore(root).storage, f"{KEY.view}/{KEY.digest}", KEY))
            store = FeatureStore(root).open(KEY, mend=True)
            store.agree_with_golden(HERE, lambda: GOLDEN, 1e-4)
            store.discard_damaged(deep=True)
            assert extract(store, ROWS[KEY][:11]) == ([2] if unit is None else [unit, 2])
            assert files_of(root) == before
            shutil.rmtree(root)


def test_a_table_of_another_key_in_its_place_is_found(whole, tmp_path):
    """Whole files of the right form, from elsewhere: every promise is about its own bytes."""
    root, before = tmp_path / "s", whole[1]
    shutil.copytree(whole[0], root)
    names = [n for n in before if n.startswith(f"{KEY.view}/{KEY.digest}/segments")]
    for inner in ("features/c.0.0", "ledger/0.json", "sealed.json", "segment.json", "plan.npy"):
        some = [n for n in names if n.endswith(inner)]
        for name in some:
            for other in some:
                if before[name] != before[other]:
                    survives(root, before, name, lambda p, o=other: p.write_bytes(before[o]))


def test_two_units_that_have_changed_places_are_found(whole, tmp_path):
    root, before = tmp_path / "s", whole[1]
    shutil.copytree(whole[0], root)
    store = FeatureStore(root).open(KEY)
    segment = max(store.segments, key=lambda s: s.units)
    name = next(n for n in before if segment.folder in n and n.endswith("features/c.0.0"))
    swapped = name.replace("c.0.0", "c.1.0")
    (root / name).write_bytes(before[swapped])
    (root / swapped).write_bytes(before[name])
    findings = verify(FeatureStore(root).open(KEY))
    assert sorted((f.segment, f.unit) for f in findings) == [(segment.name, 0), (segment.name, 1)]
    store = FeatureStore(root).open(KEY)
    assert store.discard_damaged(deep=True) == 2
    assert sorted(extract(store, ROWS[KEY])) == [0, 1]
    assert files_of(root) == before
