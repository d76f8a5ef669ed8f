"""An asymmetric phantom through every reader; whatever is broken is one ImageError."""

import io
import os
import warnings

import numpy as np
import pytest
from PIL import Image

from mvp.data.reading.readers import Limits, read_image, read_instances, read_stack
from mvp.data.reading.stack import UNSAID, Shown
from mvp.errors import ImageError

DEFAULT = Limits()


def film(dtype=np.uint8):
    """(10, 14): brighter to the right and to the bottom, a bright mark at the upper left."""
    top = np.iinfo(dtype).max
    ramp = np.add.outer(np.arange(10) * 3, np.arange(14) * 2).astype(np.float64)
    values = (ramp / ramp.max() * top * 0.6).astype(dtype)
    values[1:4, 1:3] = top
    return values


def saved(folder, image, name, **options):
    path = folder / name
    image.save(path, **options)
    return path


def grey(dtype=np.uint8):
    return Image.fromarray(film(dtype))


def with_alpha(mode):
    image = grey().convert(mode)
    image.putalpha(255)
    return image


def refused(path, limits=DEFAULT, *, says=""):
    with pytest.raises(ImageError) as caught:
        read_image(path, limits)
    line = str(caught.value)
    assert line.isprintable()
    assert caught.value.__suppress_context__ or caught.value.__cause__ is None
    assert says in line
    assert str(path) in line
    return line


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff", "PNG"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P"])
def test_lossless_8_bit_in_every_mode(tmp_path, suffix, mode):
    if suffix == "bmp" and mode in ("LA", "RGBA"):
        pytest.skip("no such files")
    image = with_alpha(mode) if mode in ("LA", "RGBA") else grey().convert(mode)
    pixels = read_image(saved(tmp_path, image, f"film.{suffix}"))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, film())


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_16_bits_stay_16_bits(tmp_path, suffix, compression):
    options = {"compression": compression} if compression and suffix == "tif" else {}
    pixels = read_image(saved(tmp_path, grey(np.uint16), f"film.{suffix}", **options))
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, film(np.uint16))


def test_colour_stays_colour_and_in_its_order(tmp_path):
    rgb = np.stack([film(), film()[:, ::-1], np.zeros_like(film())], axis=2)
    for name in ("c.png", "c.bmp", "c.tif"):
        pixels = read_image(saved(tmp_path, Image.fromarray(rgb), name))
        np.testing.assert_array_equal(pixels, rgb)


def test_one_bit_is_black_and_white(tmp_path):
    bits = film() > 100
    for name in ("b.png", "b.tif", "b.bmp"):
        pixels = read_image(saved(tmp_path, Image.fromarray(bits), name))
        np.testing.assert_array_equal(pixels, bits * np.uint8(255))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_is_the_right_way_round(tmp_path, mode):
    big = grey().resize((140, 100), Image.Resampling.NEAREST)
    pixels = read_image(saved(tmp_path, big.convert(mode), "film.jpg", quality=95))
    pixels = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    assert pixels.shape == (100, 140)
    assert np.abs(pixels - np.asarray(big, float)).mean() < 6


def test_the_orientation_that_a_camera_wrote_is_followed(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # turn by 90 degrees to the right
    for name in ("o.jpg", "o.png"):
        pixels = read_image(saved(tmp_path, grey(), name, exif=exif, quality=95))
        assert pixels.shape == (14, 10), name
        assert np.abs(pixels.astype(float) - np.rot90(film(), -1)).mean() < 12, name


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize(("turn", "quarters"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_turned_tiff(tmp_path, dtype, compression, turn, quarters):
    """Pillow 13 scrambles an uncompressed one that it opens by its path."""
    path = saved(
        tmp_path, grey(dtype), "o.tif", tiffinfo={274: turn}, compression=compression
    )  # fmt: skip
    np.testing.assert_array_equal(read_image(path), np.rot90(film(dtype), quarters))


def test_transparent_pixels_are_black(tmp_path):
    image = grey().convert("RGBA")
    image.putalpha(Image.fromarray(np.where(film() == 255, 0, 255).astype(np.uint8)))
    pixels = read_image(saved(tmp_path, image, "a.png"))
    np.testing.assert_array_equal(pixels, np.where(film() == 255, 0, film()))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_that_says_white_is_zero_reads_as_black_is_zero(tmp_path, dtype):
    """8 and 16 bits alike; Pillow alone turns only the former round."""
    path = tmp_path / "w.tif"
    path.write_bytes(white_is_zero(film(dtype)))
    pixels = read_image(path)
    np.testing.assert_array_equal(pixels, np.iinfo(dtype).max - film(dtype))


def white_is_zero(values):
    """An uncompressed TIFF with PhotometricInterpretation 0, written byte by byte."""
    data = values.tobytes()
    height, width = values.shape
    entries = [
        (256, width), (257, height), (258, values.itemsize * 8), (259, 1), (262, 0),
        (273, 8), (277, 1), (278, height), (279, len(data)),
    ]  # fmt: skip
    out = b"II*\0" + (8 + len(data)).to_bytes(4, "little") + data
    out += len(entries).to_bytes(2, "little")
    for tag, value in entries:
        out += tag.to_bytes(2, "little") + (4).to_bytes(2, "little")
        out += (1).to_bytes(4, "little") + value.to_bytes(4, "little")
    return out + bytes(4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.float16])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays(tmp_path, dtype, order):
    values = np.array(film(np.uint8), dtype=dtype, order=order)
    path = tmp_path / "a.npy"
    np.save(path, values)
    pixels = read_image(path)
    assert pixels.dtype == (dtype if values.dtype.kind == "u" else np.float32)
    np.testing.assert_array_equal(pixels, film())


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.array([{"a": 1}], dtype=object), "decoded"),
        (np.zeros((3, 4, 4), np.uint8), "3 images"),
        (np.zeros((2, 3, 4, 4), np.uint8), "(2, 3, 4, 4)"),
        (np.zeros((2, 2, 3, 4, 3), np.uint8), "(2, 2, 3, 4, 3)"),
        (np.zeros((0, 4, 4), np.uint8), "(0, 4, 4)"),
        (np.zeros((4, 4, 3), np.uint16), "colour"),
        (np.zeros((9, 4, 3), np.float32), "colour"),
        (np.zeros(4, np.uint8), "(4,)"),
        (np.zeros((0, 4), np.uint8), "(0, 4)"),
        (np.array([[1.0, np.nan]]), "finite"),
        (np.array([[1.0, 1e300]]), "finite"),
        (np.array([[1.0, np.inf]], np.float32), "finite"),
        (np.zeros((4, 4), np.int64), "int64"),
        (np.zeros((4, 4), np.complex64), "complex64"),
        (np.zeros((4, 4), bool), "bool"),
        (np.zeros((4, 4), "<U3"), "<U3"),
        (np.zeros((4, 4), [("a", "u1")]), "'a'"),
    ],
)
def test_arrays_that_are_no_image_are_refused(tmp_path, values, says):
    path = tmp_path / "a.npy"
    np.save(path, values, allow_pickle=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        refused(path, says=says)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_volume_keeps_its_slices_in_order(tmp_path, dtype, order):
    slices = np.stack([film(), film()[::-1], film()[:, ::-1], film() // 2]).astype(dtype)
    np.save(tmp_path / "v.npy", np.asarray(slices, order=order))
    stack = read_instances(tmp_path / "v.npy")
    assert stack.dtype == (dtype if np.dtype(dtype).kind == "u" else np.float32)
    assert stack.flags.c_contiguous
    np.testing.assert_array_equal(stack, slices)
    assert "read_instances" in refused(tmp_path / "v.npy", says="4 images")


def test_a_last_axis_of_three_is_colour(tmp_path):
    """Three slices are told from three colours by where they stand; one slice is one image."""
    rgb = np.stack([film(), film()[:, ::-1], np.zeros_like(film())], axis=2)
    path = tmp_path / "c.npy"
    np.save(path, rgb)
    np.testing.assert_array_equal(read_image(path), rgb)
    np.testing.assert_array_equal(read_instances(path), rgb[None])
    np.save(path, np.stack([rgb, rgb[::-1]]))
    np.testing.assert_array_equal(read_instances(path), [rgb, rgb[::-1]])
    np.save(path, rgb.transpose(2, 0, 1))
    np.testing.assert_array_equal(read_instances(path), rgb.transpose(2, 0, 1))
    np.save(path, film()[None])
    np.testing.assert_array_equal(read_image(path), film())
    np.save(path, np.repeat(film()[..., None], 3, axis=2))  # grey, saved in colour
    np.testing.assert_array_equal(read_instances(path), film()[None])


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.bmp", "a.npy"])
def test_a_single_image_is_a_stack_of_one(tmp_path, name):
    path = tmp_path / name
    if name == "a.npy":
        np.save(path, film())
    else:
        grey().save(path)
    stack = read_instances(path)
    assert stack.shape == (1, 10, 14)
    np.testing.assert_array_equal(stack[0], read_image(path))


def test_a_volume_has_limits_of_its_own(tmp_path):
    path = tmp_path / "v.npy"
    np.save(path, np.zeros((5, 20, 20), np.uint8))
    assert read_instances(path, Limits(max_pixels=400, max_volume_pixels=2000)).shape[0] == 5
    for limits, says in [
        (Limits(max_pixels=399), "data.max_pixels"),
        (Limits(max_volume_pixels=1999), "data.max_volume_pixels"),
    ]:
        with pytest.raises(ImageError, match=says):
            read_instances(path, limits)


def test_a_pickle_is_never_loaded(tmp_path):
    path = tmp_path / "bomb.npy"

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    np.save(path, np.array([Bomb()], dtype=object), allow_pickle=True)
    refused(path)
    import pickle

    path.write_bytes(pickle.dumps(Bomb()))
    refused(path)
    assert not (tmp_path / "ran").exists()


def test_a_float_tiff_with_nan_is_refused(tmp_path):
    values = film().astype(np.float32)
    assert read_image(saved(tmp_path, Image.fromarray(values), "f.tif")).dtype == np.float32
    values[0, 0] = np.nan
    refused(saved(tmp_path, Image.fromarray(values), "n.tif"), says="finite")


def test_pages_of_a_tiff_are_not_passed_over(tmp_path):
    path = saved(tmp_path, grey(), "m.tif", save_all=True, append_images=[grey(), grey()])
    refused(path, says="3 images")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_grey_pages_of_one_size_are_a_stack(tmp_path, dtype, compression):
    slices = [film(dtype), film(dtype)[::-1], film(dtype)[:, ::-1]]
    first, *others = [Image.fromarray(np.ascontiguousarray(s)) for s in slices]
    options = {"save_all": True, "append_images": others, "compression": compression}
    path = saved(tmp_path, first, "m.tif", **options)
    np.testing.assert_array_equal(read_instances(path), slices)
    assert len(read_instances(path, Limits(max_pixels=140, max_volume_pixels=420))) == 3
    with pytest.raises(ImageError, match=r"data\.max_volume_pixels"):
        read_instances(path, Limits(max_volume_pixels=419))


@pytest.mark.parametrize(
    "other", [grey().resize((9, 9)), grey(np.uint16), grey().convert("RGB"), grey().convert("1")]
)
def test_pages_that_are_no_stack_are_refused(tmp_path, other):
    path = saved(tmp_path, grey(), "m.tif", save_all=True, append_images=[grey(), other])
    with pytest.raises(ImageError, match="no stack"):
        read_instances(path)
    colour = grey().convert("RGB")
    path = saved(tmp_path, colour, "c.tif", save_all=True, append_images=[colour])
    with pytest.raises(ImageError, match="no stack"):
        read_instances(path)
    path = saved(tmp_path, grey(), "a.png", save_all=True, append_images=[grey(), other])
    with pytest.raises(ImageError, match="no stack"):
        read_instances(path)


def png_of_16_bits(colour_type, channels):
    """A PNG of 16 bits and several channels, written chunk by chunk."""
    import struct
    import zlib

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = np.repeat(film(np.uint16)[..., None], channels, axis=2).astype(">u2")
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", 14, 10, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    )


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_colour_of_16_bits_does_not_lose_half_of_them(tmp_path, colour_type, channels):
    path = tmp_path / "a.png"
    path.write_bytes(png_of_16_bits(colour_type, channels))
    refused(path, says="of 16 bits")
    path.write_bytes(png_of_16_bits(0, 1))
    np.testing.assert_array_equal(read_image(path), film(np.uint16))


def test_a_tiff_of_12_bits_says_how_many(tmp_path):
    values = film(np.uint16) >> 4
    pairs = values.reshape(-1, 2).astype(int)
    packed = np.stack(
        [pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1
    )
    entries = [
        (256, 14), (257, 10), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 10),
        (279, packed.size),
    ]  # fmt: skip
    out = b"II*\0" + (8 + packed.size).to_bytes(4, "little") + packed.astype(np.uint8).tobytes()
    out += len(entries).to_bytes(2, "little")
    for tag, value in entries:
        out += tag.to_bytes(2, "little") + (4).to_bytes(2, "little")
        out += (1).to_bytes(4, "little") + value.to_bytes(4, "little")
    path = tmp_path / "t.tif"
    path.write_bytes(out + bytes(4))
    stack = read_stack(path)
    np.testing.assert_array_equal(stack.pixels[0], values)
    assert stack.shown == (Shown(0, 4095),)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
@pytest.mark.parametrize("name", ["film", "IM0001.7", "a.ima"])
def test_a_file_of_no_known_name_is_what_its_first_bytes_say(tmp_path, kind, name):
    (tmp_path / name).write_bytes(encoded(kind))
    assert read_image(tmp_path / name).shape == (40, 60)
    assert read_stack(tmp_path / name).shown == (UNSAID,)
    (tmp_path / name).write_bytes(b"neither" * 40)
    refused(tmp_path / name, says="cannot")


def encoded(kind, image=None):
    stream = io.BytesIO()
    (image or grey().resize((60, 40))).save(stream, kind)
    return stream.getvalue()


def test_broken_files(tmp_path):
    broken = {
        "half.jpg": encoded("JPEG")[:400],
        "half.png": encoded("PNG")[:120],
        "half.tif": encoded("TIFF")[:-500],
        "half.npy": b"\x93NUMPY\x01\x00",
        "text.png": b"this is no image\n" * 20,
        "text.npy": b"this is no array\n" * 20,
        "zeros.png": bytes(5000),
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, says="cannot be decoded")


def test_files_that_are_none(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    refused(tmp_path / "empty.png", says="0 bytes")
    refused(tmp_path / "none.png", says="not there")
    refused(tmp_path, says="not a file")
    refused(tmp_path / ("x" * 300 + ".png"), says="not there")
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "pipe.png", says="not a file")
    with pytest.raises(ImageError, match="not there"):
        read_image("a\0b.png")


def test_too_many_pixels_or_bytes_name_the_setting(tmp_path):
    png = saved(tmp_path, Image.new("L", (3000, 3000)), "bomb.png")
    npy = tmp_path / "bomb.npy"
    np.save(npy, np.zeros((100, 100), np.uint8))
    refused(png, Limits(max_pixels=8_999_999), says="data.max_pixels")
    refused(npy, Limits(max_pixels=9_999), says="data.max_pixels")
    refused(npy, Limits(max_bytes=10_000), says="data.max_bytes")
    assert read_image(png, Limits(max_pixels=9_000_000)).shape == (3000, 3000)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    """A PNG header that promises 60,000 x 60,000 pixels costs nothing."""
    data = bytearray(encoded("PNG"))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(data)
    refused(tmp_path / "bomb.png", says="3600000000 pixels")


def test_other_formats_are_not_tried(tmp_path):
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n"
    (tmp_path / "a.png").write_bytes(eps)
    refused(tmp_path / "a.png", says="cannot identify")
    (tmp_path / "b.png").write_bytes(encoded("GIF"))
    refused(tmp_path / "b.png", says="cannot identify")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "npy"])
def test_mutated_bytes_raise_nothing_but_image_errors(tmp_path, kind):
    rng = np.random.default_rng(7)
    stream = io.BytesIO()
    np.save(stream, film())
    whole = stream.getvalue() if kind == "npy" else encoded(kind)
    path = tmp_path / ("a.npy" if kind == "npy" else "a.png")
    limits = Limits(max_pixels=1_000_000)
    failed = 0
    for round_ in range(120):
        data = bytearray(whole)
        reach = len(data) if round_ % 2 else min(150, len(data))
        for place in rng.integers(reach, size=rng.integers(1, 6)):
            data[place] = rng.integers(256)
        if round_ % 5 == 0:
            del data[int(rng.integers(len(data))) :]
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pixels = read_image(path, limits)
        except ImageError as error:
            failed += 1
            assert str(error).isprintable()
        else:
            assert pixels.ndim in (2, 3)
            assert pixels.size <= 3 * limits.max_pixels
    assert failed > 10


def test_a_link_that_leads_in_a_circle_is_not_called_missing(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(ImageError, match="cannot be reached"):
        read_image(tmp_path / "a.png")
    with pytest.raises(ImageError, match="not there"):
        read_image(tmp_path / "c.png")
