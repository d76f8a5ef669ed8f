"""Promises: one per unit, a seal over all, and each repairs the other."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mvp.features import documents
from mvp.features.layout import Layout
from mvp.features.ledger import Ledger, LedgerEntry, object_digest
from mvp.features.local import LocalStorage

LAYOUT = Layout.fitting(10, (3,), "float32", 4)


def entry_of(unit, rejected=None):
    return LedgerEntry(unit, 52, object_digest(b"unit %d" % unit), rejected or {}, unit)


def ledger_of(folder):
    return Ledger(LocalStorage(folder), "segment", LAYOUT)


def full(folder, sealed=True):
    ledger = ledger_of(folder)
    for unit in range(3):
        assert ledger.create(entry_of(unit))
    if sealed:
        assert ledger.seal({unit: entry_of(unit) for unit in range(3)})
    return ledger


def hurt(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes().replace(b"52", b"53", 1))


ALL = {unit: entry_of(unit) for unit in range(3)}


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2), st.dictionaries(st.integers(0, 1), st.text(), max_size=2))
def test_an_entry_comes_back(tmp_path_factory, unit, rejected):
    ledger = ledger_of(tmp_path_factory.mktemp("l"))
    entry = entry_of(unit, rejected)
    assert ledger.create(entry)
    assert ledger.entry(unit) == entry
    promises = ledger.promises()
    assert (promises.entries, promises.wrong, promises.sealed) == ({unit: entry}, {}, False)


def test_a_unit_is_promised_once(tmp_path):
    ledger = full(tmp_path, sealed=False)
    assert not ledger.create(entry_of(1, {0: "x"}))
    assert ledger.promises().entries == ALL


def test_a_seal_is_set_when_all_units_are_promised_and_not_before(tmp_path):
    ledger = ledger_of(tmp_path)
    for unit in range(3):
        assert not ledger.seal({u: entry_of(u) for u in range(unit)})
        ledger.create(entry_of(unit))
    assert not ledger.promises().sealed
    assert ledger.seal(ALL)
    assert ledger.seal(ALL)
    assert ledger.promises().sealed
    assert ledger.promises().entries == ALL


def test_the_seal_stands_for_entries_that_are_lost(tmp_path):
    ledger = full(tmp_path)
    (tmp_path / ledger.name(0)).unlink()
    hurt(tmp_path, ledger.name(1))
    assert ledger.promises().entries == ALL
    entries, wrong = ledger.entries()
    assert (list(entries), list(wrong)) == ([2], [1])
    ledger.replace(entry_of(0))
    ledger.replace(entry_of(1))
    assert ledger.entries() == (ALL, {})


def test_the_entries_stand_for_a_seal_that_is_lost(tmp_path):
    ledger = full(tmp_path)
    before = (tmp_path / ledger.seal_name).read_bytes()
    hurt(tmp_path, ledger.seal_name)
    promises = ledger.promises()
    assert (promises.entries, promises.sealed) == (ALL, False)
    assert "seal" in promises.seal
    assert ledger.seal(promises.entries)
    assert (tmp_path / ledger.seal_name).read_bytes() == before
    (tmp_path / ledger.seal_name).unlink()
    assert ledger.promises().seal == ""
    assert ledger.promises().entries == ALL


@pytest.mark.parametrize(
    "units",
    [[], [0, 1], [0, 1, 2, 2], [0, 2, 1], [0, 1, 1]],
)
def test_a_seal_over_other_units_is_no_seal(tmp_path, units):
    ledger = full(tmp_path, sealed=False)
    value = {"units": [entry_of(unit).to_json() for unit in units]}
    (tmp_path / ledger.seal_name).write_bytes(documents.dump(value))
    promises = ledger.promises()
    assert not promises.sealed
    assert promises.seal
    assert promises.entries == ALL


@pytest.mark.parametrize(
    "value",
    [{}, {"units": None}, {"units": [1, 2, 3]}, {"units": {}}, {"units": [[], [], []]}],
)
def test_a_seal_that_says_nothing_is_no_seal(tmp_path, value):
    ledger = full(tmp_path, sealed=False)
    (tmp_path / ledger.seal_name).write_bytes(documents.dump(value))
    assert not ledger.promises().sealed
    assert ledger.promises().entries == ALL


def test_a_promise_taken_back_takes_the_seal_with_it(tmp_path):
    ledger = full(tmp_path)
    ledger.delete(1)
    promises = ledger.promises()
    assert (promises.sealed, sorted(promises.entries)) == (False, [0, 2])
    assert ledger.entry(1) is None
    ledger.delete(1)  # an absent one is no error


def test_what_else_lies_in_the_folder_is_no_promise(tmp_path):
    ledger = full(tmp_path, sealed=False)
    for name in ("3.json", "00.json", "x.json", ".partial-1", "1.json.bak"):
        (tmp_path / "segment" / "ledger" / name).write_bytes(b"{}")
    promises = ledger.promises()
    assert (promises.entries, promises.wrong) == (ALL, {})


def test_the_digest_is_that_of_sha256sum():
    import hashlib

    assert object_digest(b"ab", memoryview(b"c")) == hashlib.sha256(b"abc").hexdigest()
