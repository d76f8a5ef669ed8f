"""How DICOM files are packed: with and without preamble, and frames that lie about themselves."""

import struct

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
from pydicom.encaps import encapsulate, generate_frames  # noqa: E402
from pydicom.uid import (  # noqa: E402
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSLossless,
    RLELossless,
)

from mvp.data.reading.dicom_tags import burned_in  # noqa: E402
from mvp.data.reading.readers import Limits, read_image, read_stack  # noqa: E402
from mvp.errors import ImageError  # noqa: E402
from tests.data.reading.dicoms import CANARY, dataset, film, save  # noqa: E402


def refused(path, says, limits=None):
    with pytest.raises(ImageError) as caught:
        read_stack(path, limits or Limits())
    line = str(caught.value)
    assert says in line
    assert CANARY not in line
    assert line.isprintable()


@pytest.mark.parametrize("name", ["IM0001", "1.2.840.5", "a.dic", "a.ima", "a.img", "a.IMA"])
def test_a_file_of_any_other_name_is_dicom_when_it_begins_so(tmp_path, name):
    np.testing.assert_array_equal(read_image(save(tmp_path, dataset(film()), name)), film())


def test_a_known_name_is_believed(tmp_path):
    refused(save(tmp_path, dataset(film()), "a.png"), "decoded")


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian]
)
@pytest.mark.parametrize("meta", [True, False])
def test_a_file_without_preamble(tmp_path, syntax, meta):
    ds = dataset(film(), bits=12, syntax=syntax)
    whole = save(tmp_path, ds).read_bytes()
    length = struct.unpack("<I", whole[140:144])[0]
    path = tmp_path / "bare.dcm"
    path.write_bytes(whole[132 if meta else 144 + length :])
    np.testing.assert_array_equal(read_image(path), film())


@pytest.mark.parametrize(
    "data",
    [
        b"x" * 500,
        b"\2\0\2\0ZZ\0\0" * 20,
        b"\x08\0\x05\0\xff\xff\xff\x7f" * 20,
        b"\x10\0\x10\0PN\4\0ab  " * 20,
        b"\x08\0",
        bytes(128) + b"DICM",
        bytes(128) + b"DICM" + b"garbage!" * 30,
    ],
)
def test_what_begins_with_no_element_of_a_header_is_not_dicom(tmp_path, data):
    (tmp_path / "a.dcm").write_bytes(data)
    refused(tmp_path / "a.dcm", "not DICOM")


def frames_of(syntax, bits=12):
    big = np.kron(film(np.uint8 if bits == 8 else np.uint16, bits), np.ones((8, 8), np.uint16))
    ds = dataset(big.astype(np.uint8 if bits == 8 else np.uint16), bits=bits)
    if syntax == JPEGBaseline8Bit:
        import io

        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(big.astype(np.uint8)).save(stream, "JPEG")
        ds.file_meta.TransferSyntaxUID = syntax
        ds.PixelData = encapsulate([stream.getvalue()])
    else:
        ds.compress(syntax)
    return ds, next(generate_frames(ds.PixelData, number_of_frames=1))


@pytest.mark.parametrize(
    ("syntax", "bits", "library"),
    [
        (JPEGBaseline8Bit, 8, "PIL"),
        (JPEGLSLossless, 12, "jpeg_ls"),
        (JPEG2000Lossless, 12, "openjpeg"),
    ],
)
@pytest.mark.parametrize("lie", ["rows", "columns", "components", "bits", "no head"])
def test_a_frame_that_claims_another_picture_is_not_decoded(
    tmp_path, monkeypatch, syntax, bits, library, lie
):
    pytest.importorskip(library)
    ds, frame = frames_of(syntax, bits)
    path = save(tmp_path, ds)
    assert read_image(path).shape == (80, 112)

    def decoded(*_, **__):
        raise AssertionError("it was decoded")

    frame = bytearray(frame)
    if lie == "no head":
        frame = frame[-40:]
    elif syntax == JPEG2000Lossless:
        place, form, value = {
            "rows": (12, ">I", 60_000),
            "columns": (8, ">I", 60_000),
            "components": (40, ">H", 3),
            "bits": (42, "B", 30),
        }[lie]
        struct.pack_into(form, frame, place, value)
    else:
        start = frame.index(b"\xff\xf7" if syntax == JPEGLSLossless else b"\xff\xc0")
        place, form, value = {
            "rows": (5, ">H", 60_000),
            "columns": (7, ">H", 60_000),
            "components": (9, "B", 3),
            "bits": (4, "B", 17),
        }[lie]
        struct.pack_into(form, frame, start + place, value)
    ds.PixelData = encapsulate([bytes(frame)])
    path = save(tmp_path, ds)
    monkeypatch.setattr("pydicom.pixels.pixel_array", decoded)
    refused(path, "not the picture")


@pytest.mark.parametrize(
    "head", [(3, 64, 100), (0, 0), (15, *range(64, 79)), (2, 64, 1 << 30), (2, 8, 70), (2, 90, 70)]
)
def test_run_lengths_of_other_segments_are_not_decoded(tmp_path, monkeypatch, head):
    ds, frame = frames_of(RLELossless)
    frame = struct.pack(f"<{len(head)}I", *head).ljust(64, b"\0") + frame[64:]
    ds.PixelData = encapsulate([frame])
    path = save(tmp_path, ds)
    monkeypatch.setattr("pydicom.pixels.pixel_array", None)
    refused(path, "not the picture")


def test_a_segment_longer_than_its_picture_could_need_is_not_decoded(tmp_path, monkeypatch):
    """128 bytes come out of two: a long segment is a bomb whatever the header says."""
    ds, _ = frames_of(RLELossless)
    segment = b"\x81\0" * 50_000
    frame = struct.pack("<3I", 2, 64, 64 + len(segment)).ljust(64, b"\0") + segment * 2
    ds.PixelData = encapsulate([frame])
    path = save(tmp_path, ds)
    monkeypatch.setattr("pydicom.pixels.pixel_array", None)
    refused(path, "not the picture")


def test_fewer_frames_than_announced(tmp_path):
    ds, frame = frames_of(RLELossless)
    ds.NumberOfFrames = 3
    ds.PixelData = encapsulate([frame, frame])
    refused(save(tmp_path, ds), "")
    plain = dataset(film(), NumberOfFrames=2)
    refused(save(tmp_path, plain), "shorter")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", ["2000000000", "-1", "1e9", "x"])
def test_a_number_of_frames_that_cannot_be(tmp_path, count):
    path = save(tmp_path, dataset(film(), NumberOfFrames="1111111111"))
    path.write_bytes(path.read_bytes().replace(b"1111111111", count.encode().ljust(10)))
    refused(path, "")


def test_lossy_jpeg_of_12_bits_is_named(tmp_path):
    ds, _ = frames_of(JPEGBaseline8Bit, 8)
    ds.file_meta.TransferSyntaxUID = JPEGExtended12Bit
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    refused(save(tmp_path, ds), "JPEG of 12 bits")


@pytest.mark.parametrize(
    ("said", "wanted"), [("YES", "yes"), ("NO", "no"), ("", "unsaid"), (None, "unsaid")]
)
def test_names_that_are_burned_in(tmp_path, said, wanted):
    extra = {} if said is None else {"BurnedInAnnotation": said}
    assert burned_in(save(tmp_path, dataset(film(), **extra))) == wanted
    assert burned_in(save(tmp_path, dataset(film(), **extra), "noname")) == wanted


def test_a_file_that_cannot_be_read_says_nothing_of_names(tmp_path):
    assert burned_in(tmp_path / "none.dcm") == "unsaid"
    (tmp_path / "a.dcm").write_bytes(b"text")
    assert burned_in(tmp_path / "a.dcm") == "unsaid"
    (tmp_path / "a.png").write_bytes(b"text")
    assert burned_in(tmp_path / "a.png") == "unsaid"
    packed = dataset(film(), syntax=DeflatedExplicitVRLittleEndian, BurnedInAnnotation="YES")
    path = save(tmp_path, packed, "b.dcm")
    assert burned_in(path) == "unsaid"
    assert burned_in(path, Limits(allow_deflated=True)) == "yes"
