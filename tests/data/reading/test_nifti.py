"""NIfTI: every plane the right way up whatever the affine, and nothing inflated unasked."""

import gzip
import re

import numpy as np
import pytest

nibabel = pytest.importorskip("nibabel")

from mvp.data.reading.readers import Limits, read_image, read_instances, read_stack  # noqa: E402
from mvp.data.reading.stack import UNSAID, Shown, Window  # noqa: E402
from mvp.errors import ImageError, MissingExtraError  # noqa: E402

DEFAULT = Limits()


def body(dtype=np.int16):
    """(x, y, z) = (6, 8, 5) in RAS+: 100 per step right, 10 per step forward, 1 per step up."""
    x, y, z = np.meshgrid(np.arange(6), np.arange(8), np.arange(5), indexing="ij")
    return (100 * x + 10 * y + z).astype(dtype)


def stored(axes):
    """The body as a scanner with these axes stores it, and the affine that says so."""
    ras = nibabel.Nifti1Image(body(), np.diag([2.0, 3.0, 4.0, 1.0]))
    target = nibabel.orientations.axcodes2ornt(axes)
    return ras.as_reoriented(nibabel.io_orientation(np.eye(4)) if axes == "RAS" else _to(target))


def _to(target):
    return nibabel.orientations.ornt_transform(nibabel.io_orientation(np.eye(4)), target)


def save(folder, image, name="a.nii.gz"):
    path = folder / name
    nibabel.save(image, path)
    return path


def refused(path, limits=DEFAULT, says="", read=read_instances):
    with pytest.raises(ImageError) as caught:
        read(path, limits)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PRS", "ALI"])
def test_axial_slices_have_anterior_up_and_the_patients_right_to_the_left(tmp_path, axes, name):
    image = stored(axes)
    path = tmp_path / name
    data = image.to_bytes()
    path.write_bytes(gzip.compress(data) if name.lower().endswith("gz") else data)
    stack = read_instances(path)
    assert stack.shape == (5, 8, 6)
    for z in range(5):  # from the feet to the head
        assert stack[z, 0, 0] == 100 * 5 + 10 * 7 + z  # right, anterior
        assert stack[z, -1, 0] == 100 * 5 + z  # right, posterior
        assert stack[z, 0, -1] == 10 * 7 + z  # left, anterior
        np.testing.assert_array_equal(stack[z], body()[::-1, ::-1, z].T)


@pytest.mark.parametrize("axes", ["RSA", "LIP", "SRA"])
def test_coronal_slices_have_superior_up_and_the_patients_right_to_the_left(tmp_path, axes):
    stack = read_instances(save(tmp_path, stored(axes)))
    assert stack.shape == (8, 5, 6)
    for y in range(8):  # from back to front
        np.testing.assert_array_equal(stack[y], body()[::-1, y, ::-1].T)
        assert stack[y, 0, 0] == 100 * 5 + 10 * y + 4  # right, superior


@pytest.mark.parametrize("axes", ["ASR", "PIL", "SAL"])
def test_sagittal_slices_have_superior_up_and_anterior_to_the_left(tmp_path, axes):
    stack = read_instances(save(tmp_path, stored(axes)))
    assert stack.shape == (6, 5, 8)
    for x in range(6):  # from the patient's left to the right
        np.testing.assert_array_equal(stack[x], body()[x, ::-1, ::-1].T)
        assert stack[x, 0, 0] == 100 * x + 10 * 7 + 4  # anterior, superior


def test_an_oblique_volume_goes_to_its_nearest_plane(tmp_path):
    turn = np.deg2rad(20)
    affine = np.eye(4)
    affine[:2, :2] = [[-np.cos(turn), np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine[:3, 3] = [40, -30, 7]
    mirrored = nibabel.Nifti1Image(np.ascontiguousarray(body()[::-1]), affine)
    np.testing.assert_array_equal(
        read_instances(save(tmp_path, mirrored)), body().transpose(2, 1, 0)[:, ::-1, ::-1]
    )


def test_it_agrees_with_nibabels_canonical_array(tmp_path):
    path = save(tmp_path, stored("PLI"))
    canonical = np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj)
    np.testing.assert_array_equal(read_instances(path), canonical.transpose(2, 1, 0)[:, ::-1, ::-1])


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_types_and_byte_orders(tmp_path, kind, dtype, order):
    values = (body() % 251).astype(dtype)
    image = kind(values, np.eye(4))
    header = image.header.as_byteswapped(order)
    path = save(tmp_path, kind(values, np.eye(4), header), "a.nii")
    stack = read_instances(path)
    assert stack.dtype == (dtype if np.dtype(dtype).kind == "u" else np.float32)
    assert stack.dtype.isnative
    np.testing.assert_array_equal(stack, values.transpose(2, 1, 0)[:, ::-1, ::-1])


def test_scaled_voxels_are_scaled(tmp_path):
    image = nibabel.Nifti1Image(body(np.uint8), np.eye(4))
    image.header.set_slope_inter(2.0, -7.0)
    path = tmp_path / "a.nii"
    # nibabel would scale while saving: the raw values are wanted under that header.
    raw = bytearray(nibabel.Nifti1Image(body(np.uint8), np.eye(4)).to_bytes())
    raw[112:120] = np.array([2.0, -7.0], "<f4").tobytes()
    path.write_bytes(raw)
    stack = read_instances(path)
    assert stack.dtype == np.float32
    np.testing.assert_array_equal(
        stack, body(np.uint8).astype(float).transpose(2, 1, 0)[:, ::-1, ::-1] * 2 - 7
    )


def test_the_header_may_say_what_is_shown(tmp_path):
    image = stored("RAS")
    assert read_stack(save(tmp_path, image)).shown == (UNSAID,)
    image.header["cal_min"], image.header["cal_max"] = -10, 30
    shown = read_stack(save(tmp_path, image)).shown_at(3)
    assert shown == Shown(window=Window(10, 40, "LINEAR_EXACT"))
    for low, high in [(5, 5), (7, 2), (0, np.inf), (np.nan, 1)]:
        image.header["cal_min"], image.header["cal_max"] = low, high
        assert read_stack(save(tmp_path, image)).shown == (UNSAID,)


def test_one_slice_one_time_point_and_several(tmp_path):
    flat = save(tmp_path, nibabel.Nifti1Image(body()[:, :, 0], np.eye(4)))
    assert read_image(flat).shape == (8, 6)
    once = save(tmp_path, nibabel.Nifti1Image(body()[..., None], np.eye(4)))
    assert read_instances(once).shape == (5, 8, 6)
    assert "read_instances" in refused(once, says="5 images", read=read_image)
    film = nibabel.Nifti1Image(np.stack([body()] * 2, axis=3), np.eye(4))
    assert "time point" in refused(save(tmp_path, film), says="4 dimensions")


def test_what_is_not_read(tmp_path):
    complex_ = nibabel.Nifti1Image(body().astype(np.complex64), np.eye(4))
    refused(save(tmp_path, complex_), says="complex")
    hole = body(np.float32)
    hole[2, 2, 2] = np.nan
    refused(save(tmp_path, nibabel.Nifti1Image(hole, np.eye(4))), says="finite")
    nibabel.save(nibabel.Nifti1Pair(body(), np.eye(4)), tmp_path / "pair.img")
    (tmp_path / "pair.hdr").rename(tmp_path / "pair.nii")
    refused(tmp_path / "pair.nii", says="same file")
    (tmp_path / "text.nii").write_bytes(b"no volume" * 100)
    refused(tmp_path / "text.nii", says="not NIfTI")
    whole = save(tmp_path, stored("RAS"), "a.nii").read_bytes()
    (tmp_path / "half.nii").write_bytes(whole[:-100])
    refused(tmp_path / "half.nii", says="decoded")
    packed = bytearray(gzip.compress(whole))
    packed[-6] ^= 1  # its checksum
    (tmp_path / "damaged.nii.gz").write_bytes(packed)
    refused(tmp_path / "damaged.nii.gz", says="decoded")


def test_limits_are_compared_with_the_header(tmp_path):
    path = save(tmp_path, stored("RAS"))
    assert read_instances(path, Limits(max_pixels=48, max_volume_pixels=240)).size == 240
    refused(path, Limits(max_pixels=47), says="data.max_pixels")
    refused(path, Limits(max_volume_pixels=239), says="data.max_volume_pixels")


def test_a_gzip_bomb_is_inflated_no_further_than_its_header_says(tmp_path, monkeypatch):
    read = [0]
    original = gzip.GzipFile.read

    def counting(self, size=-1):
        assert size >= 0
        data = original(self, size)
        read[0] += len(data)
        return data

    monkeypatch.setattr(gzip.GzipFile, "read", counting)
    whole = stored("RAS").to_bytes()
    path = tmp_path / "bomb.nii.gz"
    path.write_bytes(gzip.compress(whole + bytes(50_000_000)))
    assert read_instances(path).shape == (5, 8, 6)
    assert read[0] <= len(whole) + 1
    read[0] = 0
    large = bytearray(whole)
    large[42:48] = np.array([30_000] * 3, "<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(large) + bytes(50_000_000)))
    refused(path, says="data.max_pixels")
    far = bytearray(whole)
    far[108:112] = np.array([40_000_000], "<f4").tobytes()
    path.write_bytes(gzip.compress(bytes(far) + bytes(50_000_000)))
    refused(path, Limits(max_bytes=1_000_000), says="contradicts")
    assert read[0] < 2000


def test_without_nibabel_it_is_named(tmp_path, monkeypatch):
    path = save(tmp_path, stored("RAS"))
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(MissingExtraError, match=re.escape("[nifti]")):
        read_instances(path)


@pytest.mark.parametrize("packed", [False, True])
def test_mutated_bytes_raise_nothing_but_image_errors(tmp_path, packed):
    rng = np.random.default_rng(5)
    image = stored("LPS")
    image.header["descrip"] = b"ZZCANARY"
    whole = gzip.compress(image.to_bytes()) if packed else image.to_bytes()
    path, failed = tmp_path / "m.nii", 0
    limits = Limits(max_pixels=1_000_000, max_volume_pixels=10_000_000)
    for round_ in range(150):
        data = bytearray(whole)
        reach = len(data) if round_ % 2 else 352 - 200 * packed
        for place in rng.integers(reach, size=rng.integers(1, 6)):
            data[place] = rng.integers(256)
        if round_ % 5 == 0:
            del data[int(rng.integers(len(data))) :]
        path.write_bytes(data or b"x")
        try:
            stack = read_instances(path, limits)
        except ImageError as error:
            failed += 1
            assert "ZZCANARY" not in str(error)
        else:
            assert stack.ndim == 3
    assert failed > 20
