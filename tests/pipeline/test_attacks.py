"""Tables and files of strangers: refused, or shown as text that does nothing."""

import contextlib
import csv
import gzip
import os
import re
import signal
import sqlite3
import struct
import subprocess
import sys
import time
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import mvp
from mvp.data.reading.decoding import examine
from mvp.data.reading.limits import Limits
from mvp.data.tables.ids import MAX_ID
from mvp.files import plain_cell, safe_cell
from tests.data import odd_library
from tests.pipeline.conftest import (
    FILMS_TOML,
    edit,
    finish_json,
    rejects_of,
    write_films,
    write_studies,
)

STUDIES = 40
# Ids that a spreadsheet, a browser or a terminal would take for more than text.
STRANGE = [
    "=cmd('calc')",
    "+1",
    "-1",
    "@x",
    "'=twice",
    "=twice",
    "\u202eevil\u202c",
    "a\u2066b",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "bell\x07",
    "\x9b31m",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "{{ 7 * 7 }}",
    "line\nbreak",
    "line\r\nmvp: a bug",
    "../../etc/passwd",
    "x" * 10_000,
    "%s%n",
    "'; drop table files; --",
    "ſtudy É",
    "\U0001f600",
]


def attacked(ws, ids=(), paths=()):
    """A workspace of whole films under these ids, and beside them rows of these paths."""
    files = write_films(ws, STUDIES)
    rows = []
    for i, file in enumerate(files.values()):
        name = ids[i] if i < len(ids) else f"s{i}"
        # The same film under a study that fails, so that the reject table names every id.
        rows.append([name, f"p{i}", "PA", file.name, i % 2])
        rows.append([name, f"p{i}", "PA", f"gone{i}.png", i % 2])
    rows += [["s39", "p39", "PA", path, 1] for path in paths]
    write_studies(ws, rows)
    return files


class Tags(HTMLParser):
    """The elements and event handlers of a page."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def handle_starttag(self, tag, attrs):
        self.seen |= {tag, *(name for name, _ in attrs if name.startswith("on"))}


def harmless(printed):
    """Whether a terminal shows it as it stands."""
    return all(c.isprintable() or c == "\n" for c in printed)


def cells(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return [cell for row in csv.reader(stream) for cell in row]


def test_ids_of_strangers_are_text_everywhere(command, tmp_path):
    ws = tmp_path / "ws"
    attacked(ws, STRANGE)
    edit(ws, 'aliases = ["PA"]', 'aliases = ["PA"]\n\n[views.again]\nsource = "frontal"')
    table = ws / "studies.csv"
    for arguments, code in {
        ("check",): 3,
        ("run",): 4,
        ("evaluate", "--json"): 0,
        ("score", table): 4,
        ("score", table, "--json", "--out", ws / "other.csv"): 4,
        ("check", "--json"): 3,
    }.items():
        returned, out, err = command(*arguments, "-w", ws)
        assert returned == code, err
        assert harmless(out), arguments
        assert harmless(re.sub(r"\r[^\r\n]*", "", err)), arguments  # progress bars go back
        assert "Traceback" not in err
        assert "a bug" not in err
        if "--json" in arguments:
            assert len(out.splitlines()) == 1
    made = [p for p in ws.rglob("*") if p.is_file() and p.parent != ws / "data" and p != table]
    names = {p.suffix for p in made}
    assert {".csv", ".html", ".txt", ".json", ".sqlite"} <= names
    for path in made:
        if path.suffix == ".csv":
            assert not [c for c in cells(path) if c.startswith(("=", "+", "@", "\t", "\r"))], path
            starts = [c for c in cells(path) if c.startswith("-")]
            assert all(re.fullmatch(r"-[\d.e-]+", c) for c in starts), path
        elif path.suffix == ".html":
            page = path.read_text()
            tags = Tags()
            tags.feed(page)
            assert not tags.seen & {"script", "svg", "onerror", "onload", "iframe"}
            assert harmless(page)
        elif path.suffix == ".txt":
            assert harmless(path.read_text()), path
    # What prints is an id all the same: none is lost, none became another. The rest is refused.
    ids = {text.strip() for text in STRANGE}
    kept = {text for text in ids if text.isprintable() and len(text) <= MAX_ID}
    assert 10 < len(kept) < len(ids)
    for path in (ws / "scores" / "studies.csv", ws / "split.csv"):
        assert {plain_cell(c) for c in cells(path)} & ids == kept
    before = (ws / "split.csv").read_bytes()
    command("extract", "-w", ws)
    command("split", "-w", ws)
    assert (ws / "split.csv").read_bytes() == before


def test_no_two_texts_become_one_cell():
    texts = ["=a", "'=a", "''=a", "'a", "a", "'", "", "\t=", "+", "'+", "＝1", "\nx"]
    escaped = [safe_cell(t) for t in texts]
    assert len(set(escaped)) == len(texts)
    assert [plain_cell(c) for c in escaped] == texts
    assert not [c for c in escaped if c.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝"))]
    assert safe_cell(-1.5) == -1.5


def test_paths_of_strangers_are_refused_one_by_one(command, tmp_path):
    ws = tmp_path / "ws"
    outside = tmp_path / "outside.png"
    paths = [
        "../../outside.png",
        "../data/../../outside.png",
        str(outside),
        "/etc/passwd",
        "link.png",
        "folder_link/outside.png",
        "nul\0.png",
        "https://example.org/a.png",
        "file:///etc/passwd",
        "file:/etc/passwd",
        "x" * 10_000 + ".png",
        "y" * 300 + ".png",
        "folder.png",
        "pipe.png",
        "zero.npy",
        "a\u202egnp.exe",
        "~/a.png",
        "$HOME/a.png",
        "*.png",
        "|id.png",
        "s0000.png/x.png",
    ]
    paths = [p for p in paths if "\0" not in p]  # the table's own reader refuses these
    files = attacked(ws, paths=paths)
    data = ws / "data"
    outside.write_bytes(next(iter(files.values())).read_bytes())
    (data / "link.png").symlink_to(outside)
    (data / "folder_link").symlink_to(tmp_path)
    (data / "folder.png").mkdir()
    os.mkfifo(data / "pipe.png")
    (data / "zero.npy").symlink_to("/dev/zero")
    code, out, err = command("check", "-w", ws)
    assert code == 3
    assert harmless(out)
    code, out, err = command("extract", "-w", ws, "--json", "--quiet")
    assert code == 4
    assert harmless(out + err)
    reasons = {plain_cell(path): reason for path, reason in rejects_of(ws).items()}
    assert {p.strip() for p in paths} <= set(reasons)
    assert all(reason and harmless(reason) and "\n" not in reason for reason in reasons.values())
    assert "leads out" in reasons["link.png"]
    assert "leads out" in reasons["folder_link/outside.png"]
    assert "address" in reasons["https://example.org/a.png"]
    assert "leads out" in reasons["../../outside.png"]
    assert "not a file" in reasons["pipe.png"]
    done = mvp.extract(ws, progress=False)
    assert done.views["frontal"].rows == STUDIES
    assert done.forward_passes == 0


def zeros(count, times, window):
    """A deflated stream of `count` zeros, so many times over, made without packing them all."""
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    first = packer.compress(bytes(count)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(count)) + packer.flush(zlib.Z_FULL_FLUSH)
    # A block behind a full flush stands for itself.
    return first + again * (times - 1) + b"\x03\0"


def png_bomb(path):
    """50,000 x 50,000 black pixels in little more than two megabytes."""
    side = 50_000
    size = side * (side + 1)
    body = zeros(size // 1000, 1000, zlib.MAX_WBITS) + struct.pack(">HH", size % 65521, 1)

    def chunk(kind, data):
        sealed = kind + data
        return struct.pack(">I", len(data)) + sealed + struct.pack(">I", zlib.crc32(sealed))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    whole = chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + whole)


def npy_bomb(path):
    """A header of 10**12 numbers, and none of them."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"
    path.write_bytes(b"\x93NUMPY\x01\0v\0" + header.ljust(118))


def npy_volume_bomb(path):
    """As many slices as no memory holds, each within the limit."""
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000, 1000), }"
    path.write_bytes(b"\x93NUMPY\x01\0v\0" + header.ljust(118))


def tiff_ring(path):
    """A TIFF of two directories, each of which says that the other one is the next."""
    pixel = [(256, 4, 8), (257, 4, 8), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 300),
             (277, 3, 1), (278, 4, 8), (279, 4, 64)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in pixel)
    size = 2 + len(entries) + 4
    both = [struct.pack("<H", len(pixel)) + entries + struct.pack("<I", n) for n in (8 + size, 8)]
    path.write_bytes((b"II*\0\x08\0\0\0" + both[0] + both[1]).ljust(300, b"\0") + b"U" * 64)


def gzip_volume(path, shape, offset, megabytes):
    nibabel = pytest.importorskip("nibabel")
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(shape)
    header["magic"], header["vox_offset"] = b"n+1", offset
    start = gzip.compress(header.binaryblock + bytes(4))
    # Members of one gzip file follow each other.
    path.write_bytes(start + gzip.compress(bytes(1 << 20)) * megabytes)


def gzip_bomb(path):
    """Two gigabytes of zeros behind a header that announces 10**10 voxels."""
    gzip_volume(path, (10_000, 10_000, 100), 352, 2000)


def gzip_gap_bomb(path):
    """Voxels that begin a gigabyte behind the header."""
    gzip_volume(path, (8, 8, 1), 1 << 30, 200)


def deflated_bomb(path):
    """A DICOM file, deflated as a whole: 64 megabytes of zeros as its pixels."""
    pydicom = pytest.importorskip("pydicom")
    from tests.data.reading.dicoms import dataset

    ds = dataset(np.zeros((4, 4), np.uint8))
    ds.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    ds.Rows = ds.Columns = 8000
    ds.PixelData = bytes(8000 * 8000)
    ds.save_as(path, enforce_file_format=True)


def larger_frame(path, kind, syntax):
    """A frame that is 1,500 x 1,500 by its own header, in a file that says 8 x 8."""
    import io

    pydicom = pytest.importorskip("pydicom")
    from tests.data.reading.dicoms import dataset

    stream = io.BytesIO()
    options = {"no_jp2": True} if kind == "JPEG2000" else {}
    Image.fromarray(np.zeros((1500, 1500), np.uint8)).save(stream, kind, **options)
    ds = dataset(np.zeros((8, 8), np.uint8))
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = pydicom.encaps.encapsulate([stream.getvalue()])
    ds["PixelData"].VR = "OB"
    ds.save_as(path, enforce_file_format=True)


def jpeg2000_larger(path):
    larger_frame(path, "JPEG2000", "1.2.840.10008.1.2.4.90")


def jpeg_larger(path):
    larger_frame(path, "JPEG", "1.2.840.10008.1.2.4.50")


def folder_of_itself(path):
    path.symlink_to(path)


BOMBS = {
    "png.png": png_bomb,
    "npy.npy": npy_bomb,
    "volume.npy": npy_volume_bomb,
    "gzip.nii.gz": gzip_bomb,
    "gap.nii.gz": gzip_gap_bomb,
    "deflated.dcm": deflated_bomb,
    "jpeg2000.dcm": jpeg2000_larger,
    "jpeg.dcm": jpeg_larger,
    "loop.png": folder_of_itself,
}


def test_a_ring_of_directories_comes_to_an_end(tmp_path):
    tiff_ring(tmp_path / "ring.tif")
    content = examine(str(tmp_path / "ring.tif"), Limits(max_seconds=5))
    assert content.error is None or "seconds" not in content.error.what
    assert content.instances <= 2


def test_every_bomb_is_one_reject(done_json, tmp_path):
    """All other films are done."""
    ws = tmp_path / "ws"
    files = write_films(ws, 8)
    rows = [[study, study, "PA", file.name, i % 2] for i, (study, file) in enumerate(files.items())]
    for name, make in BOMBS.items():
        make(ws / "data" / name)
        rows.append([f"bomb {name}", "p", "PA", name, 1])
    write_studies(ws, rows)
    said = done_json("extract", "-w", ws, code=4)
    assert said["views"]["frontal"]["rows"] == 8
    reasons = rejects_of(ws)
    assert set(reasons) == set(BOMBS)
    assert all("\n" not in reason for reason in reasons.values())
    assert "max_pixels" in reasons["png.png"]
    assert "max_pixels" in reasons["npy.npy"] or "decoded" in reasons["npy.npy"]
    assert "deflated" in reasons["deflated.dcm"]


def test_a_crash_a_hang_and_a_full_memory_cost_a_row_each(tmp_path, monkeypatch):
    """In a library that reads films, on the real command line."""
    library = odd_library.install(tmp_path / "library")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(library), *_paths()]))
    ws = tmp_path / "ws"
    files = write_films(ws, 8, FILMS_TOML.replace('"data"\n', '"data"\nmax_seconds = 2\n', 1))
    rows = [[study, study, "PA", file.name, i % 2] for i, (study, file) in enumerate(files.items())]
    orders = ["sleep", "crash", "exit", "leave", f"fill {8 << 30}", "print ZZSECRET", "recurse"]
    for order in orders:
        name = order.split()[0] + ".nii"
        odd_library.order(ws / "data" / name, order)
        rows.insert(0, [name, "p", "PA", name, 1])
    write_studies(ws, rows)
    said = finish_json("extract", "-w", ws, code=4)
    assert said["views"]["frontal"]["rows"] == 8
    reasons = rejects_of(ws)
    assert set(reasons) == {order.split()[0] + ".nii" for order in orders}
    assert "data.max_seconds" in reasons["sleep.nii"] or "2 seconds" in reasons["sleep.nii"]
    assert "died" in reasons["crash.nii"]
    assert "memory" in reasons["fill.nii"]
    with contextlib.closing(sqlite3.connect(ws / "cache" / "inventory.sqlite")) as connection:
        assert "ZZSECRET" not in "\n".join(connection.iterdump())


def _paths():
    return [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]


@pytest.mark.slow
def test_an_interrupt_does_not_wait_for_files_that_hang(tmp_path):
    ws = tmp_path / "ws"
    attacked(ws, paths=["slow.nii"])
    odd_library.order(ws / "data" / "slow.nii", "sleep")
    library = odd_library.install(tmp_path / "library")
    process = subprocess.Popen(
        [sys.executable, "-m", "mvp", "check", "-w", str(ws), "--quiet"],
        env={**os.environ, "PYTHONPATH": str(library)},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(8)
    assert process.poll() is None
    start = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    err = process.communicate(timeout=60)[1]
    assert time.monotonic() - start < 8
    assert process.returncode == 130
    assert "Traceback" not in err
