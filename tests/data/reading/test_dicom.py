"""DICOM: the right way up, at the right values, and never a word of the header in an error."""

import logging
import re
import warnings

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import Dataset  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402
from pydicom.uid import (  # noqa: E402
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from mvp.data.reading.readers import Limits, read_image, read_instances  # noqa: E402
from mvp.errors import ImageError, MissingExtraError  # noqa: E402
from tests.data.reading.dicoms import CANARY, dataset, film, save  # noqa: E402

DEFAULT = Limits()


def refused(path, limits=DEFAULT, says="", read=read_instances):
    with pytest.raises(ImageError) as caught:
        read(path, limits)
    line = str(caught.value)
    assert CANARY not in line
    assert line.isprintable()
    assert caught.value.__suppress_context__ or caught.value.__cause__ is None
    assert says in line
    assert str(path) in line
    return line


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
@pytest.mark.parametrize("suffix", ["dcm", "dicom", "DCM"])
def test_a_film_is_the_right_way_up_and_keeps_its_12_bits(tmp_path, syntax, suffix):
    path = save(tmp_path, dataset(film(), bits=12, syntax=syntax), f"a.{suffix}")
    stack = read_instances(path)
    assert stack.dtype == np.dtype("=u2")
    np.testing.assert_array_equal(stack, film()[None])
    np.testing.assert_array_equal(read_image(path), film())


def test_8_bits_stay_8_bits(tmp_path):
    pixels = read_image(save(tmp_path, dataset(film(np.uint8, 8))))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, film(np.uint8, 8))


def test_frames_come_in_their_order(tmp_path):
    frames = np.stack([film(), film()[:, ::-1], film()[::-1]])
    path = save(tmp_path, dataset(frames, bits=12))
    np.testing.assert_array_equal(read_instances(path), frames)
    assert "read_instances" in refused(path, says="3 images", read=read_image)


@pytest.mark.parametrize("frames", [1, 3])
def test_run_length_compression(tmp_path, frames):
    values = np.stack([np.roll(film(), i, 1) for i in range(frames)])
    ds = dataset(values, bits=12)
    ds.compress(RLELossless)
    np.testing.assert_array_equal(read_instances(save(tmp_path, ds)), values)


@pytest.mark.parametrize(
    ("syntax", "library"), [(JPEGLSLossless, "jpeg_ls"), (JPEG2000Lossless, "openjpeg")]
)
def test_lossless_compression_with_the_libraries_of_the_extra(tmp_path, syntax, library):
    pytest.importorskip(library)
    pytest.importorskip("pylibjpeg")
    big = np.kron(film(), np.ones((8, 8), np.uint16))
    ds = dataset(big, bits=12)
    ds.compress(syntax)
    np.testing.assert_array_equal(read_image(save(tmp_path, ds)), big)


def test_a_baseline_jpeg_needs_no_library_of_its_own(tmp_path):
    import io

    from PIL import Image
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    big = np.kron(film(np.uint8, 8), np.ones((8, 8), np.uint8))
    stream = io.BytesIO()
    Image.fromarray(big).save(stream, "JPEG", quality=95)
    ds = dataset(big, syntax=JPEGBaseline8Bit)
    ds.PixelData = encapsulate([stream.getvalue()])
    ds["PixelData"].is_undefined_length = True
    pixels = read_image(save(tmp_path, ds))
    assert np.abs(pixels - big.astype(float)).mean() < 3


def test_a_library_that_is_missing_is_named(tmp_path, monkeypatch):
    from pydicom.pixels import get_decoder

    ds = dataset(film(), bits=12)
    ds.compress(RLELossless)
    path = save(tmp_path, ds)
    monkeypatch.setattr(type(get_decoder(RLELossless)), "available_plugins", ())
    with pytest.raises(MissingExtraError, match=re.escape("[dicom]")):
        read_instances(path)
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(MissingExtraError, match="pydicom"):
        read_instances(path)


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 12), (np.uint16, 16)])
def test_monochrome1_is_inverted_within_what_its_bits_allow(tmp_path, dtype, bits):
    """Not within the values that occur: two films of one detector keep one scale."""
    values = film(dtype, bits) // 2
    pixels = read_image(save(tmp_path, dataset(values, "MONOCHROME1", bits)))
    assert pixels.dtype == dtype
    np.testing.assert_array_equal(pixels, (1 << bits) - 1 - values.astype(int))


def test_signed_monochrome1_and_signed_values(tmp_path):
    values = film(np.int16, 11) - np.int16(1000)
    plain = read_image(save(tmp_path, dataset(values, bits=12)))
    assert plain.dtype == np.float32
    np.testing.assert_array_equal(plain, values)
    inverted = read_image(save(tmp_path, dataset(values, "MONOCHROME1", 12), "b.dcm"))
    np.testing.assert_array_equal(inverted, -1 - values)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_slope_and_intercept_are_applied(tmp_path, photometric):
    ds = dataset(film(), photometric, 12, RescaleSlope="2", RescaleIntercept="-1024")
    pixels = read_image(save(tmp_path, ds))
    stored = 4095 - film().astype(float) if photometric == "MONOCHROME1" else film()
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, stored * 2.0 - 1024)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_one_bit_is_black_and_white(tmp_path, photometric):
    bits = (film() > 1000)[:, :8].astype(np.uint8)
    ds = dataset(bits, photometric)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 1, 1, 0
    ds.PixelData = pydicom.pixels.pack_bits(bits)
    wanted = bits if photometric == "MONOCHROME2" else 1 - bits
    np.testing.assert_array_equal(read_image(save(tmp_path, ds)), wanted * 255)


def test_an_identity_changes_no_type(tmp_path):
    ds = dataset(film(), bits=12, RescaleSlope="1.0", RescaleIntercept="0")
    assert read_image(save(tmp_path, ds)).dtype == np.uint16


def test_an_enhanced_file_has_a_slope_for_every_frame(tmp_path):
    def group(slope):
        line, item = Dataset(), Dataset()
        line.RescaleSlope, line.RescaleIntercept = str(slope), "1"
        item.PixelValueTransformationSequence = Sequence([line])
        return item

    frames = np.stack([film(), film()])
    ds = dataset(frames, bits=12, SharedFunctionalGroupsSequence=Sequence([group(5)]))
    np.testing.assert_array_equal(
        read_instances(save(tmp_path, ds)), frames.astype(np.float32) * 5 + 1
    )
    ds.PerFrameFunctionalGroupsSequence = Sequence([group(2), group(3)])
    stack = read_instances(save(tmp_path, ds))
    np.testing.assert_array_equal(stack[0], film().astype(np.float32) * 2 + 1)
    np.testing.assert_array_equal(stack[1], film().astype(np.float32) * 3 + 1)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_table_of_the_modality_is_applied(tmp_path, photometric):
    values = film(np.uint8, 8)
    table = (np.arange(256) ** 2 // 16).astype(np.uint16)
    item = Dataset()
    item.LUTDescriptor = [256, 0, 12]
    item.add_new("LUTData", "OW", table.astype("<u2").tobytes())
    item.ModalityLUTType = "US"
    ds = dataset(values, photometric, ModalityLUTSequence=Sequence([item]))
    looked_up = table[values].astype(int)
    wanted = 4095 - looked_up if photometric == "MONOCHROME1" else looked_up
    np.testing.assert_array_equal(read_image(save(tmp_path, ds)), wanted)


def test_colours(tmp_path):
    from pydicom.pixels import convert_color_space

    rgb = np.stack([film(np.uint8, 8), film(np.uint8, 8)[:, ::-1], np.full((10, 14), 9)], axis=2)
    rgb = rgb.astype(np.uint8)
    plain = save(tmp_path, dataset(rgb, "RGB"))
    np.testing.assert_array_equal(read_image(plain), rgb)
    ybr = save(tmp_path, dataset(convert_color_space(rgb, "RGB", "YBR_FULL"), "YBR_FULL"))
    assert np.abs(read_image(ybr).astype(int) - rgb).max() <= 2
    several = save(tmp_path, dataset(np.stack([rgb, rgb[::-1]]), "RGB"), "m.dcm")
    np.testing.assert_array_equal(read_instances(several), [rgb, rgb[::-1]])
    grey = np.repeat(film(np.uint8, 8)[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_image(save(tmp_path, dataset(grey, "RGB"))), grey[..., 0])


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_becomes_its_colours(tmp_path, bits):
    values = film(np.uint8, 8)
    ds = dataset(values, "PALETTE COLOR")
    tables = {"Red": np.arange(256), "Green": np.arange(256)[::-1], "Blue": np.full(256, 7)}
    for colour, table in tables.items():
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, bits])
        data = table.astype(np.uint8) if bits == 8 else (table * 256).astype("<u2")
        setattr(ds, f"{colour}PaletteColorLookupTableData", data.tobytes())
    pixels = read_image(save(tmp_path, ds))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(
        pixels, np.stack([t[values] for t in tables.values()], axis=2).astype(np.uint8)
    )


def test_a_palette_in_big_endian_is_not_black():
    from pydicom.data import get_testdata_file

    little = read_image(get_testdata_file("OBXXXX1A.dcm"))
    assert little.max() > 200
    np.testing.assert_array_equal(read_image(get_testdata_file("OBXXXX1A_expb.dcm")), little)


def test_limits_are_compared_with_the_header_before_anything_is_decoded(tmp_path, monkeypatch):
    frames = np.zeros((5, 20, 20), np.uint16)
    path = save(tmp_path, dataset(frames))
    limits = Limits(max_pixels=400, max_volume_pixels=2000)
    assert read_instances(path, limits).shape == (5, 20, 20)

    def decoded(*_, **__):
        raise AssertionError("it was decoded")

    monkeypatch.setattr("pydicom.pixels.pixel_array", decoded)
    refused(path, Limits(max_pixels=399), says="data.max_pixels")
    refused(path, Limits(max_volume_pixels=1999), says="data.max_volume_pixels")
    ds = dataset(frames, NumberOfFrames=2_000_000_000, Rows=60_000, Columns=60_000)
    refused(save(tmp_path, ds), says="3600000000 pixels")


def test_frames_that_were_not_announced_are_not_decoded(tmp_path):
    frames = np.stack([film()] * 4)
    ds = dataset(frames, bits=12)
    ds.compress(RLELossless)
    ds.NumberOfFrames = 2
    assert len(read_instances(save(tmp_path, ds))) == 2


def test_a_deflated_file_is_refused_before_it_is_inflated(tmp_path, monkeypatch):
    import zlib

    path = save(tmp_path, dataset(film(), bits=12, syntax=DeflatedExplicitVRLittleEndian))

    def inflated(*_, **__):
        raise AssertionError("it was inflated")

    monkeypatch.setattr(zlib, "decompress", inflated)
    monkeypatch.setattr(zlib, "decompressobj", inflated)
    assert "data.allow_deflated" in refused(path, says="deflated")


def test_a_deflated_file_that_is_allowed_is_inflated_within_bounds(tmp_path):
    path = save(tmp_path, dataset(film(), bits=12, syntax=DeflatedExplicitVRLittleEndian))
    allowed = Limits(allow_deflated=True)
    np.testing.assert_array_equal(read_image(path, allowed), film())
    bomb = dataset(np.zeros((5000, 5000), np.uint8), syntax=DeflatedExplicitVRLittleEndian)
    path = save(tmp_path, bomb, "bomb.dcm")
    assert path.stat().st_size < 100_000
    assert read_image(path, allowed).shape == (5000, 5000)
    small = Limits(allow_deflated=True, max_bytes=1_000_000)
    import tracemalloc

    tracemalloc.start()
    refused(path, small, says="data.max_bytes")
    assert tracemalloc.get_traced_memory()[1] < 8_000_000
    tracemalloc.stop()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, allowed, says="cut off")


@pytest.mark.parametrize("uid", [".4.95", ".4.205", ".8.1"])
def test_what_is_deflated_frame_by_frame_is_never_read(tmp_path, uid):
    ds = dataset(film(), bits=12)
    path = save(tmp_path, ds)
    old = b"1.2.840.10008.1.2.1\0"
    new = f"1.2.840.10008.1.2{uid}".encode()
    data = path.read_bytes().replace(
        b"UI\x14\0" + old,
        b"UI" + bytes([len(new) + len(new) % 2, 0]) + new + b"\0" * (len(new) % 2),
    )
    path.write_bytes(data)
    refused(path, Limits(allow_deflated=True), says="deflated")


def test_what_is_no_image_or_of_an_unknown_kind(tmp_path):
    no_image = dataset(film())
    del no_image.Rows, no_image.PixelData
    refused(save(tmp_path, no_image), says="no image")
    no_pixels = dataset(film())
    del no_pixels.PixelData
    refused(save(tmp_path, no_pixels), says="no pixel data")
    for kind in (CANARY, "HSV", "YBR_PARTIAL_420"):
        refused(save(tmp_path, dataset(film(), PhotometricInterpretation=kind)), says="colour")
    refused(save(tmp_path, dataset(film().astype(np.uint32))), says="16 bits")
    cut = dataset(film())
    cut.PixelData = cut.PixelData[:100]
    refused(save(tmp_path, cut), says="shorter")
    video = dataset(film())
    video.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
    video.PixelData = pydicom.encaps.encapsulate([b"x" * 10])
    video["PixelData"].is_undefined_length = True
    refused(save(tmp_path, video), says="transfer syntax")
    (tmp_path / "text.dcm").write_bytes(f"no DICOM file of {CANARY}".encode() * 50)
    refused(tmp_path / "text.dcm", says="not DICOM")


def test_values_that_leave_float32_are_refused(tmp_path):
    refused(save(tmp_path, dataset(film(), RescaleSlope="1e300")), says="finite")


def test_nested_sequences_without_end_are_one_error(tmp_path):
    item = Dataset()
    item.PatientName = CANARY
    for _ in range(400):
        outer = Dataset()
        outer.PixelValueTransformationSequence = Sequence([item])
        item = outer
    ds = dataset(film(), SharedFunctionalGroupsSequence=Sequence([item]))
    import sys

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        path = save(tmp_path, ds)
    finally:
        sys.setrecursionlimit(limit)
    try:
        read_instances(path)
    except ImageError as error:
        assert CANARY not in str(error)


@pytest.mark.parametrize("element", ["RescaleSlope", "PhotometricInterpretation", "Rows", "syntax"])
def test_nothing_of_a_header_is_logged_warned_or_said(tmp_path, caplog, element):
    from mvp.data.reading import dicom_syntax

    ds = dataset(film(), bits=12, RescaleSlope="12345678", RescaleIntercept="1")
    ds.PhotometricInterpretation = "MONOCHROME2 "
    path = save(tmp_path, ds)
    wrong = {
        "RescaleSlope": (b"12345678", CANARY.encode()),
        "PhotometricInterpretation": (b"MONOCHROME2 ", f"{CANARY}\\ab ".encode()),
        "syntax": (b"1.2.840.10008.1.2.1\0", CANARY.encode().ljust(20, b"/")),
        "Rows": (b"\x28\0\x10\0US", b"\x28\0\x10\0ZZ"),
    }[element]
    data = path.read_bytes()
    assert wrong[0] in data
    path.write_bytes(data.replace(*wrong))
    dicom_syntax._silence.cache_clear()
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        refused(path)
    assert CANARY not in caplog.text
    assert not [w for w in seen if CANARY in str(w.message)]


@pytest.mark.filterwarnings("ignore")
def test_mutated_bytes_raise_nothing_but_image_errors(tmp_path):
    rng = np.random.default_rng(3)
    ds = dataset(np.stack([film(), film()]), bits=12, RescaleSlope="2", RescaleIntercept="1")
    whole = save(tmp_path, ds).read_bytes()
    packed = dataset(np.stack([film(), film()]), bits=12)
    packed.compress(RLELossless)
    compressed = save(tmp_path, packed).read_bytes()
    path, failed = tmp_path / "m.dcm", 0
    limits = Limits(max_pixels=1_000_000, max_volume_pixels=10_000_000)
    for round_ in range(200):
        data = bytearray(compressed if round_ % 2 else whole)
        for place in rng.integers(128, len(data), size=rng.integers(1, 8)):
            data[place] = rng.integers(256)
        if round_ % 5 == 0:
            del data[int(rng.integers(len(data))) :]
        path.write_bytes(data)
        try:
            stack = read_instances(path, limits)
        except ImageError as error:
            failed += 1
            assert CANARY not in str(error)
            assert str(error).isprintable()
        except MissingExtraError:
            pass
        else:
            assert stack.size <= 3 * limits.max_volume_pixels
    assert failed > 20
