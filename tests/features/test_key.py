"""A key changes with everything that decides the numbers."""

import dataclasses

import pytest

from mvp.features import FeatureKey, image_digest, row_id
from mvp.features.rows import pack, unpack
from mvp.files import digest_bytes

KEY = FeatureKey("frontal", "a" * 32, "resnet18", "avgpool", "avg", "b" * 32)
FIELDS = [field.name for field in dataclasses.fields(FeatureKey)]


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_makes_another_key_and_is_named_in_words(field):
    other = dataclasses.replace(KEY, **{field: 99 if field == "version" else "other"})
    assert other.digest != KEY.digest
    assert other != KEY
    (difference,) = KEY.differences(other)
    assert "→" in difference


def test_the_key_names_all_that_decides_the_numbers():
    assert set(FIELDS) == {
        "view", "weights", "architecture", "layer", "pooling",
        "transform", "instances", "precision", "dtype", "engine", "version",
    }  # fmt: skip


def test_swapped_fields_make_another_key():
    swapped = dataclasses.replace(KEY, weights=KEY.transform, transform=KEY.weights)
    assert swapped.digest != KEY.digest


def test_a_key_survives_json():
    assert FeatureKey.from_json(KEY.to_json()) == KEY
    assert KEY.differences(KEY) == []


def test_row_ids_are_content_and_instance():
    a, b = digest_bytes(b"a"), digest_bytes(b"b")
    rows = [row_id(a), row_id(a, 1), row_id(b), row_id(a, 2**32 - 1)]
    assert len(set(rows)) == 4
    assert [image_digest(r) for r in rows] == [a, a, b, a]
    assert unpack(pack(rows)) == rows
    assert unpack(pack([])) == []
