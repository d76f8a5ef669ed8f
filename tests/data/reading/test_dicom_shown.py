"""What a DICOM file shows of its values: as pydicom shows it, and turned where white is zero."""

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from pydicom.dataset import Dataset  # noqa: E402
from pydicom.pixels import apply_modality_lut, apply_voi_lut  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian  # noqa: E402

from mvp.config import TransformConfig  # noqa: E402
from mvp.data.intensity import through_window, unit_range  # noqa: E402
from mvp.data.reading import dicom_shown  # noqa: E402
from mvp.data.reading.dicom_shown import table_of  # noqa: E402
from mvp.data.reading.dicom_values import grey_stack  # noqa: E402
from mvp.data.reading.readers import read_stack  # noqa: E402
from mvp.data.reading.stack import UNSAID, Shown, Window  # noqa: E402
from tests.data.reading.dicoms import dataset, film, save  # noqa: E402

BY_FILE = TransformConfig(intensity="window")
FULL = TransformConfig()
KINDS = ["MONOCHROME1", "MONOCHROME2"]


def table_item(table, first, bits, order="<"):
    item = Dataset()
    item.LUTDescriptor = [len(table), first, bits]
    item.add_new("LUTData", "OW", np.asarray(table, f"{order}u2").tobytes())
    return item


def expected(ds, stored):
    """Brightness in [0, 1] as pydicom has it, of the values as stored; air dark."""
    values = apply_modality_lut(stored, ds)
    shown = apply_voi_lut(values, ds)
    if ds.get("VOILUTSequence"):
        bright = shown / ((1 << ds.VOILUTSequence[0].LUTDescriptor[2]) - 1)
    else:
        bits = ds.BitsStored
        ends = np.array([-(1 << bits - 1), (1 << bits - 1) - 1]) * ds.PixelRepresentation
        ends = ends + np.array([0, (1 << bits) - 1]) * (1 - ds.PixelRepresentation)
        if "RescaleSlope" in ds:
            ends = ends * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
        bright = (shown - ends[0]) / (ends[1] - ends[0])
    return 1 - bright if ds.PhotometricInterpretation == "MONOCHROME1" else bright


def ours(ds, stored):
    stack = grey_stack(
        stored[None].copy(), ds, "a.dcm", turned=ds.PhotometricInterpretation == "MONOCHROME1"
    )
    return unit_range(stack.pixels[0], stack.shown_at(0), BY_FILE)


@settings(deadline=None, max_examples=150)
@given(
    kind=st.sampled_from(KINDS),
    function=st.sampled_from([None, "LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    signed=st.booleans(),
    line=st.sampled_from([None, (1, -1024), (2, 7), (0.5, 0)]),
    center=st.integers(-1500, 4000),
    width=st.integers(1, 5000),
)
@pytest.mark.filterwarnings("ignore:overflow")  # pydicom's
def test_windows_are_those_of_pydicom(kind, function, signed, line, center, width):
    dtype = np.int16 if signed else np.uint16
    low, high = (-2048, 2047) if signed else (0, 4095)
    stored = np.linspace(low, high, 24 * 24).astype(dtype).reshape(24, 24)
    ds = dataset(stored, kind, 12, WindowCenter=str(center), WindowWidth=str(width))
    if function:
        ds.VOILUTFunction = function
    if line:
        ds.RescaleSlope, ds.RescaleIntercept = (str(n) for n in line)
    np.testing.assert_allclose(ours(ds, stored), expected(ds, stored), atol=2e-6)


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(KINDS),
    signed=st.booleans(),
    first=st.integers(-300, 3000),
    bits=st.sampled_from([10, 12, 16]),
    entries=st.integers(2, 600),
)
def test_tables_are_those_of_pydicom(kind, signed, first, bits, entries):
    first = first if signed else abs(first)
    stored = np.linspace(-400 if signed else 0, 2047, 400).astype(np.int16 if signed else np.uint16)
    stored = stored.reshape(20, 20)
    table = np.linspace(0, (1 << bits) - 1, entries) ** 2 / ((1 << bits) - 1)
    ds = dataset(stored, kind, 12, VOILUTSequence=Sequence([table_item(table, first, bits)]))
    # The table goes before a window.
    ds.WindowCenter, ds.WindowWidth = "1", "2"
    np.testing.assert_allclose(ours(ds, stored), expected(ds, stored), atol=2e-6)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_table_is_read_in_the_files_byte_order(tmp_path, syntax):
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    item = table_item(range(0, 4096, 2), 0, 12, order)
    ds = dataset(film(), bits=12, syntax=syntax, VOILUTSequence=Sequence([item]))
    first, bright = read_stack(save(tmp_path, ds)).shown[0].table
    assert first == 0
    np.testing.assert_allclose(bright, np.arange(0, 4096, 2) / 4095)


def test_a_table_that_all_frames_share_is_held_once(tmp_path):
    """Of 16 bits it takes megabytes: once for each frame, it is more than a film may take."""
    item = table_item(np.arange(1 << 16)[1:], 0, 16)
    ds = dataset(np.zeros((30, 4, 4), np.uint16), VOILUTSequence=Sequence([item]))
    tables = []

    def counted(*arguments):
        tables.append(table_of(*arguments))
        return tables[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dicom_shown, "table_of", counted)
        stack = read_stack(save(tmp_path, ds))
    assert len(tables) == 1
    assert stack.shown_at(29).table[1][-1] == 1.0


def test_the_first_of_several_windows(tmp_path):
    ds = dataset(film(), bits=12, WindowCenter=["40", "50"], WindowWidth=["400", "350"])
    assert read_stack(save(tmp_path, ds)).shown[0].window == Window(40, 400)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"WindowCenter": "40"},
        {"WindowCenter": "40", "WindowWidth": "0"},
        {"WindowCenter": "40", "WindowWidth": "-3"},
        {"WindowCenter": "40", "WindowWidth": "0.5"},
        {"WindowCenter": "", "WindowWidth": ""},
        {"WindowCenter": "40", "WindowWidth": "400", "VOILUTFunction": "CUBIC"},
    ],
)
def test_a_window_that_says_nothing_leaves_the_full_range(tmp_path, said):
    stack = read_stack(save(tmp_path, dataset(film(), bits=12, **said)))
    assert stack.shown == (Shown(0, 4095),)
    shown = unit_range(stack.pixels[0], stack.shown[0], BY_FILE)
    np.testing.assert_array_equal(shown, (film() / 4095).astype(np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_every_frame_has_the_view_that_is_said_of_it(tmp_path, kind):
    def group(**said):
        view, item = Dataset(), Dataset()
        for name, value in said.items():
            setattr(view, name, value)
        item.FrameVOILUTSequence = Sequence([view])
        return item

    frames = np.stack([film(), film()])
    ds = dataset(frames, kind, 12, WindowCenter="1", WindowWidth="2")
    shared = group(WindowCenter="300", WindowWidth="50", VOILUTFunction="LINEAR_EXACT")
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    wanted = 4095 - 300 if kind == "MONOCHROME1" else 300
    assert read_stack(save(tmp_path, ds)).shown == (
        Shown(0, 4095, Window(wanted, 50, "LINEAR_EXACT")),
    )
    ds.PerFrameFunctionalGroupsSequence = Sequence(
        [group(WindowCenter="10", WindowWidth="20"), group(WindowCenter="30", WindowWidth="40")]
    )
    stack = read_stack(save(tmp_path, ds))
    mirrored = [4096 - 10, 4096 - 30] if kind == "MONOCHROME1" else [10, 30]
    assert [s.window.center for s in stack.shown] == mirrored
    assert [stack.shown_at(i).window.width for i in range(2)] == [20, 40]


def test_a_12_bit_film_uses_the_whole_of_0_to_1(tmp_path):
    stack = read_stack(save(tmp_path, dataset(film(), bits=12)))
    bright = unit_range(stack.pixels[0], stack.shown_at(0), FULL)
    assert bright.max() == 1
    np.testing.assert_array_equal(bright, (film() / 4095).astype(np.float32))


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 16)])
def test_a_film_of_its_types_full_range_says_no_more_than_other_formats(tmp_path, dtype, bits):
    assert read_stack(save(tmp_path, dataset(film(dtype, bits)))).shown == (UNSAID,)


@pytest.mark.parametrize("kind", KINDS)
def test_signed_and_rescaled_values_have_a_full_range(tmp_path, kind):
    values = film(np.int16, 11) - np.int16(1000)
    ds = dataset(values, kind, 12, RescaleSlope="-2", RescaleIntercept="100")
    stack = read_stack(save(tmp_path, ds))
    assert stack.shown == (Shown(-2047 * 2 + 100, 2048 * 2 + 100),)
    bright = unit_range(stack.pixels[0], stack.shown_at(0), FULL)
    wanted = (values + 2048) / 4095
    np.testing.assert_allclose(bright, wanted if kind == "MONOCHROME1" else 1 - wanted, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_padding_is_dark_and_moves_no_percentile(tmp_path, kind, dtype):
    inside = film(dtype, 11) // 4 + dtype(1000)
    padding = dtype(-2000) if dtype == np.int16 else dtype(0)
    values = np.full((30, 14), padding)
    values[10:20] = inside
    ds = dataset(values, kind, 12)
    ds.add_new("PixelPaddingValue", "SS" if dtype == np.int16 else "US", int(padding))
    pixels = read_stack(save(tmp_path, ds)).pixels[0]
    turned = 4095 - inside.astype(int) if dtype == np.uint16 else -1 - inside.astype(int)
    wanted = turned if kind == "MONOCHROME1" else inside
    np.testing.assert_array_equal(pixels[10:20], wanted)
    assert (pixels[:10] == wanted.min()).all()
    assert (pixels[20:] == wanted.min()).all()
    bright = unit_range(
        pixels, Shown(), TransformConfig(intensity="percentile", percentiles=(0, 100))
    )
    assert bright[10:20].max() == 1
    assert bright[:10].max() == 0


def test_a_range_of_padding_and_a_picture_of_nothing_else(tmp_path):
    values = film()
    values[5:] = np.arange(5 * 14).reshape(5, 14) % 3 + 4000
    ds = dataset(values, bits=12)
    ds.add_new("PixelPaddingValue", "US", 4002)
    ds.add_new("PixelPaddingRangeLimit", "US", 4000)
    pixels = read_stack(save(tmp_path, ds)).pixels[0]
    assert (pixels[5:] == values[:5].min()).all()
    np.testing.assert_array_equal(pixels[:5], values[:5])
    alone = np.full((4, 4), 7, np.uint16)
    ds = dataset(alone, bits=12)
    ds.add_new("PixelPaddingValue", "US", 7)
    np.testing.assert_array_equal(read_stack(save(tmp_path, ds)).pixels[0], alone)


def test_padding_written_with_the_wrong_sign_is_still_padding(tmp_path):
    values = film(np.int16, 11)
    values[:3] = -2000
    ds = dataset(values, bits=16)
    ds.add_new("PixelPaddingValue", "US", 65536 - 2000)
    assert (read_stack(save(tmp_path, ds)).pixels[0][:3] == values[3:].min()).all()


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_a_window_rises_from_0_to_1_and_stays_finite(function):
    values = np.array([-1e30, -5.0, 0.0, 40.0, 100.0, 1e30])
    bright = through_window(values, Window(40, 100, function))
    assert bright[0] == pytest.approx(0, abs=1e-9)
    assert bright[-1] == pytest.approx(1)
    assert (np.diff(bright) >= 0).all()
    assert bright[3] == pytest.approx(0.5, abs=0.01)
