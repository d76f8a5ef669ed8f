"""Whole files of every kind, and what becomes of their bytes: chance, and attacks on lengths."""

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from mvp.data.reading.readers import read_stack

_LARGEST_SEED = 40_000
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def film(dtype=np.uint8, shape=(24, 20)):
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    return ((x * 7 + y * 11) * (1 if dtype == np.uint8 else 97) % np.iinfo(dtype).max).astype(dtype)


def saved(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def images():
    """Suffix and bytes of small whole images of every kind that is read."""
    grey, deep = Image.fromarray(film()), Image.fromarray(film(np.uint16))
    rgb = Image.merge("RGB", (grey, grey.transpose(Image.Transpose.FLIP_TOP_BOTTOM), grey))
    exif = Image.Exif()
    exif[274] = 6
    files = [
        (".png", saved(grey, "PNG")),
        (".png", saved(deep, "PNG")),
        (".png", saved(rgb, "PNG")),
        (".png", saved(rgb.quantize(16), "PNG")),
        (".png", saved(grey.convert("LA"), "PNG")),
        (".jpg", saved(grey, "JPEG", exif=exif)),
        (".jpg", saved(rgb, "JPEG", progressive=True)),
        (".tif", saved(grey, "TIFF")),
        (".tif", saved(deep, "TIFF", compression="tiff_lzw")),
        (".tif", saved(rgb, "TIFF", compression="tiff_adobe_deflate")),
        (".tif", saved(grey, "TIFF", compression="jpeg")),
        (".tif", saved(grey.convert("1"), "TIFF", compression="group4")),
        (".tif", saved(grey, "TIFF", compression="packbits", big_tiff=True)),
        (".bmp", saved(rgb, "BMP")),
    ]
    for array in (film(), film(np.uint16)[None].repeat(4, 0), film() / np.float32(255)):
        stream = io.BytesIO()
        np.save(stream, array)
        files.append((".npy", stream.getvalue()))
    return files + volumes() + dicoms()


def volumes():
    import nibabel

    files = []
    for dtype in (np.uint8, np.int16, np.float32):
        values = np.arange(6 * 5 * 4).reshape(6, 5, 4).astype(dtype)
        whole = nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 3.0, 1.0])).to_bytes()
        files.append((".nii", whole))
    return [*files, (".nii.gz", gzip.compress(files[1][1]))]


def dicoms():
    """The two smallest files of every transfer syntax that pydicom brings and that are read."""
    import pydicom
    from pydicom.data.data_manager import DATA_ROOT

    by_syntax = {}
    paths = Path(DATA_ROOT, "test_files").rglob("*.dcm")
    for path in sorted(paths, key=lambda p: (p.stat().st_size, p.name)):
        if not 1000 < path.stat().st_size < _LARGEST_SEED:
            continue
        try:
            syntax = str(pydicom.filereader.read_file_meta_info(path).TransferSyntaxUID)
            if len(by_syntax.setdefault(syntax, [])) < 2:
                read_stack(path)
                by_syntax[syntax].append((".dcm", path.read_bytes()))
        except Exception:  # noqa: BLE001 - some are damaged on purpose
            continue
    seeds = [seed for found in by_syntax.values() for seed in found]
    assert len(seeds) >= 15
    return seeds


def mutant(whole, suffix, others, rng):
    """A file that came to harm; `others` are whole files that its pieces may come from."""
    packed = suffix.endswith(".gz") and rng.random() < 0.7
    data = bytearray(gzip.decompress(whole) if packed else whole)
    for _ in range(int(rng.choice([1, 1, 1, 2, 5]))):
        _HARMS[int(rng.integers(len(_HARMS)))](data, others, rng)
    if suffix == ".png" and rng.random() < 0.7:
        _mend_checksums(data)
    return gzip.compress(bytes(data), 1) if packed else bytes(data)


def _place(data, rng):
    # Half of all harm goes to the header.
    return (
        int(rng.integers(min(len(data), 400) if rng.random() < 0.5 else len(data))) if data else 0
    )


def _flip(data, others, rng):
    for _ in range(int(rng.integers(1, 9))):
        if data:
            data[_place(data, rng)] ^= 1 << int(rng.integers(8))


def _overwrite(data, others, rng):
    start, size = _place(data, rng), int(rng.integers(1, 17))
    data[start : start + size] = rng.bytes(size)


def _splice(data, others, rng):
    other = others[int(rng.integers(len(others)))]
    source, start, size = (int(rng.integers(len(other))), _place(data, rng), rng.integers(1, 600))
    piece = other[source : source + int(size)]
    data[start : start + (len(piece) if rng.random() < 0.5 else 0)] = piece


def _cut(data, others, rng):
    del data[int(rng.integers(1, len(data) + 1)) if data else 0 :]


def _remove(data, others, rng):
    start = _place(data, rng)
    del data[start : start + int(rng.integers(1, 64))]


def _insert(data, others, rng):
    start = _place(data, rng)
    data[start:start] = rng.bytes(int(rng.integers(1, 64)))


def _repeat(data, others, rng):
    start = _place(data, rng)
    data[start:start] = data[start : start + int(rng.integers(1, 64))] * int(rng.integers(1, 20))


def _length(data, others, rng):
    value = int(rng.choice(_EXTREMES)) if rng.random() < 0.7 else int(rng.integers(1 << 32))
    size, start = int(rng.choice([1, 2, 4, 8])), _place(data, rng)
    order = "<>"[int(rng.integers(2))]
    packed = struct.pack(order + "Q", value << (32 if size == 8 and rng.random() < 0.5 else 0))
    data[start : start + size] = packed[:size] if order == "<" else packed[-size:]


_HARMS = (_flip, _overwrite, _splice, _cut, _remove, _insert, _repeat, _length, _length, _length)


def _mend_checksums(data):
    place = 8
    while place + 12 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        end = place + 8 + size
        if end + 4 > len(data):
            return
        data[end : end + 4] = zlib.crc32(data[place + 4 : end]).to_bytes(4, "big")
        place = end + 4


def tables():
    """Suffix and bytes of small whole tables of every kind that is read."""
    import pandas as pd

    frame = pd.DataFrame(
        [(f"s{i // 2:03}", f"p{i // 4}", ("PA", "LL")[i % 2], f"é {i}.png", str(i // 2 % 2))
         for i in range(24)],
        columns=["study", "patient", "view", "path", "finding"],
    )  # fmt: skip
    text = frame.to_csv(index=False)
    packed = io.BytesIO()
    frame.to_parquet(packed)
    return [
        (".csv", text.encode()),
        (".csv", text.encode("utf-16")),
        (".csv", frame.to_csv(index=False, quoting=1, sep=";").encode("cp1252")),
        (".tsv", frame.to_csv(index=False, sep="\t").encode()),
        (".csv.gz", gzip.compress(text.encode())),
        (".parquet", packed.getvalue()),
    ]
