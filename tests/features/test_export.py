"""Features for somebody without mvp: the same numbers, whatever they are opened with."""

import numpy as np
import pandas as pd
import pytest
import zarr

from mvp.errors import ConfigError
from mvp.features.export import Exported, export

IDS = np.array(["0012", "=1+1", "ü/ß", "S4", "S5"], dtype=object)


def exported(shape=(3,), instances=None):
    values = np.arange(5 * np.prod(shape), dtype=np.float32).reshape(5, -1)
    return values, Exported(IDS, instances, shape, iter([values[:2], values[2:5]]))


@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 3, 4)])
def test_npz_and_zarr_keep_ids_and_shape(tmp_path, shape):
    for name in ("x.npz", "x.zarr"):
        values, rows = exported(shape)
        export(tmp_path / name, rows)
        if name == "x.npz":
            data = np.load(tmp_path / name, allow_pickle=False)
        else:
            data = zarr.open_group(str(tmp_path / name), mode="r")
        assert list(data["studies"][:]) == list(IDS)
        np.testing.assert_array_equal(data["features"][:], values.reshape(5, *shape))
    assert data["features"].metadata.dimension_names[0] == "row"


def test_parquet_has_a_column_a_feature(tmp_path):
    values, rows = exported(instances=np.array([0, 1, 0, 0, 2]))
    export(tmp_path / "x.parquet", rows)
    table = pd.read_parquet(tmp_path / "x.parquet")
    assert list(table.columns) == ["study", "instance", "f0", "f1", "f2"]
    assert list(table["study"]) == list(IDS)
    np.testing.assert_array_equal(table[["f0", "f1", "f2"]].to_numpy(), values)


def test_instances_stand_beside_in_npz_and_zarr(tmp_path):
    numbers = np.array([0, 1, 0, 0, 2])
    export(tmp_path / "x.npz", exported(instances=numbers)[1])
    export(tmp_path / "x.zarr", exported(instances=numbers)[1])
    np.testing.assert_array_equal(np.load(tmp_path / "x.npz")["instances"], numbers)
    group = zarr.open_group(str(tmp_path / "x.zarr"), mode="r")
    np.testing.assert_array_equal(group["instances"][:], numbers)


@pytest.mark.parametrize("name", ["x.npz", "x.parquet", "x.zarr"])
def test_what_fails_on_the_way_leaves_nothing(tmp_path, name):
    def broken():
        yield np.zeros((2, 3), np.float32)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        export(tmp_path / name, Exported(IDS, None, (3,), broken()))
    assert list(tmp_path.iterdir()) == []


def test_other_suffixes_and_standing_folders_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"\.npz"):
        export(tmp_path / "x.csv", exported()[1])
    (tmp_path / "x.zarr").mkdir()
    with pytest.raises(ConfigError, match="already"):
        export(tmp_path / "x.zarr", exported()[1])


def test_no_rows_are_an_empty_export(tmp_path):
    empty = np.array([], dtype=object)
    for name in ("x.npz", "x.parquet", "x.zarr"):
        export(tmp_path / name, Exported(empty, None, (3,), iter([])))
    assert np.load(tmp_path / "x.npz")["features"].shape == (0, 3)
    assert len(pd.read_parquet(tmp_path / "x.parquet")) == 0
