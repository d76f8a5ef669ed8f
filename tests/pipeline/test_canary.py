"""What a DICOM header says of a patient reaches no file, no log and no terminal."""

import base64
import io
import os
import re
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

pydicom = pytest.importorskip("pydicom")
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless  # noqa: E402

from mvp import cli  # noqa: E402
from tests.data.reading.dicoms import CANARY, dataset, save  # noqa: E402
from tests.pipeline.conftest import FILMS_TOML, write_studies  # noqa: E402

STUDIES = 36
TOML = FILMS_TOML.replace("[labels", '[views.lateral]\naliases = ["LL"]\n\n[labels')


def spellings():
    """Patterns of everything that the word may be written as, over lower-case bytes."""
    word = CANARY.lower().encode()
    wide = b"\0".join(bytes([c]) for c in word)  # UTF-16 of either order
    found = [word, wide, word[::-1], word.hex().encode()]
    for text in (CANARY.encode(), CANARY.lower().encode()):
        for shift in range(3):
            # What stands before and after it decides the outer characters of base64.
            code = base64.b64encode(b"x" * shift + text)[(0, 2, 3)[shift] :].rstrip(b"=")
            found.append(code[: len(code) - 1].lower())
    return re.compile(b"|".join(map(re.escape, found)))


SPELLINGS = spellings()


def secret(pixels, **extra):
    """A film whose header says the word wherever it can."""
    ds = dataset(pixels, bits=12)
    ds.PatientName = f"{CANARY}^{CANARY.lower()}"
    ds.PatientID = ds.AccessionNumber = ds.InstitutionName = ds.StudyID = CANARY
    ds.PatientComments = ds.ImageComments = ds.SeriesDescription = CANARY
    ds.ReferringPhysicianName = ds.OperatorsName = CANARY
    ds.add_new(0x00080020, "LO", CANARY)  # a study date of text
    block = ds.private_block(0x0011, CANARY, create=True)
    block.add_new(1, "LO", CANARY)
    block.add_new(2, "UN", CANARY.encode())
    block.add_new(3, "LT", CANARY.encode("utf-16-le").decode("latin-1"))
    ds.file_meta.SourceApplicationEntityTitle = CANARY
    ds.file_meta.ImplementationVersionName = CANARY
    for name, value in extra.items():
        setattr(ds, name, value)
    return ds


def raw(folder, ds, old, new):
    """A file where some bytes were replaced."""
    path = save(folder, ds)
    data = path.read_bytes()
    assert old in data
    return data.replace(old, new, 1)


def packed(folder, pixels, syntax, frame):
    """A compressed film whose one frame is these bytes."""
    ds = secret(pixels)
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].VR = "OB"
    return save(folder, ds).read_bytes()


def jpeg2000(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG2000", no_jp2=True)
    return bytearray(stream.getvalue())


def element(group, number, vr, value):
    value = value + b" " * (len(value) % 2)
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def damaged(folder, pixels):
    """Suffix and bytes of files that make libraries complain, each in its own way."""
    whole = save(folder, secret(pixels)).read_bytes()
    word = CANARY.encode()
    rows = element(0x28, 0x10, b"US", struct.pack("<H", pixels.shape[0]))
    stored = element(0x28, 0x101, b"US", struct.pack("<H", 12))
    codestream = jpeg2000(pixels)
    broken = codestream.copy()
    broken[len(broken) // 2 :] = word * 20
    comment = b"\xff\x64" + struct.pack(">HH", 4 + len(word), 1) + word
    commented = bytearray(codestream[:-2] + comment + codestream[-2:])
    files = {
        "cut": whole[: len(whole) - 300],
        "cut in the header": whole[:400],
        "odd type": raw(folder, secret(pixels), b"PN\x12\0", b"ZQ\x12\0"),
        "long element": raw(folder, secret(pixels), b"LO\x08\0" + word, b"LO\xf0\xff" + word),
        "odd length": raw(folder, secret(pixels), b"LO\x08\0" + word, b"LO\x07\0" + word),
        "character set": save(folder, secret(pixels, SpecificCharacterSet=CANARY)).read_bytes(),
        "kind of colour": save(
            folder, secret(pixels, PhotometricInterpretation=CANARY)
        ).read_bytes(),
        "rows of text": whole.replace(rows, element(0x28, 0x10, b"LO", word)),
        "bits of text": whole.replace(stored, element(0x28, 0x101, b"LO", word)),
        "slope of text": whole.replace(
            stored, stored + element(0x28, 0x1052, b"DS", word) + element(0x28, 0x1053, b"DS", word)
        ),
        "window of text": whole.replace(stored, stored + element(0x28, 0x1050, b"DS", word)),
        "frames of text": whole.replace(rows, element(0x28, 0x8, b"IS", word) + rows),
        "transfer syntax": raw(
            folder, secret(pixels), b"1.2.840.10008.1.2.1\0", word + b".1.2.840.99"
        ),
        "JPEG 2000": packed(folder, pixels, JPEG2000Lossless, bytes(broken)),
        "JPEG 2000, cut": packed(folder, pixels, JPEG2000Lossless, bytes(commented[:80])),
        "JPEG": packed(folder, pixels, JPEGLosslessSV1, b"\xff\xd8\xff\xfe\0\x0a" + word * 30),
        "JPEG-LS": packed(folder, pixels, JPEGLSLossless, b"\xff\xd8" + word * 30),
        "RLE": packed(folder, pixels, RLELossless, word * 30),
        "preamble alone": b"\0" * 128 + b"DICM" + word * 30,
        "no DICOM": word * 200,
    }
    told = PngImagePlugin.PngInfo()
    told.add_text(CANARY, CANARY)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", pnginfo=told)
    png = stream.getvalue()
    array = b"\x93NUMPY\x01\0v\0" + b"{'descr': '" + word + b"', 'fortran_order': False}"
    header = (348).to_bytes(4, "little") + word * 60
    return [
        *((".dcm", data) for data in files.values()),
        (".png", png[:-30]),
        (".png", png.replace(b"IDAT", b"ZZCA")),
        (".npy", array.ljust(128) + word),
        (".npy", array.ljust(40) + word),
        (".nii", header),
        (".nii.gz", header),
        (".tif", b"II*\0\x08\0\0\0\x02\0" + word * 60),
        (".jpg", b"\xff\xd8\xff\xfe\0\x0a" + word + b"\xff\xda" + word * 20),
        (".bmp", b"BM" + word * 60),
        (".txt", word),
    ]


def write_workspace(ws, with_damage):
    """Two views of films that say the word; gives how many files are damaged."""
    (ws / "data").mkdir(parents=True)
    (ws / "mvp.toml").write_text(TOML)
    rng, rows = np.random.default_rng(0), []
    for i in range(STUDIES):
        for view in ("PA", "LL"):
            pixels = rng.integers(0, 2000 + 2000 * (i % 2), (32, 36), dtype=np.uint16)
            save(ws / "data", secret(pixels), f"{i}-{view}.dcm")
            rows.append([f"s{i}", f"p{i}", view, f"{i}-{view}.dcm", i % 2])
    bad = damaged(ws, pixels) if with_damage else []
    for i, (suffix, data) in enumerate(bad):
        # Beside the whole ones, so that every study keeps its views.
        (ws / "data" / f"bad{i}{suffix}").write_bytes(data)
        rows.append([f"s{i}", f"p{i}", "PA", f"bad{i}{suffix}", i % 2])
    (ws / "a.dcm").unlink(missing_ok=True)
    write_studies(ws, rows)
    return len(bad)


def real(ws, *arguments):
    """Exit code and all that was printed, as bytes."""
    environment = {name: v for name, v in os.environ.items() if name != "MVP_DEBUG"}
    done = subprocess.run(
        [sys.executable, "-m", "mvp", *arguments, "-w", str(ws)],
        capture_output=True,
        env=environment,
        timeout=300,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done.returncode, done.stdout + done.stderr


def says(data):
    """The word, however it is written, in what was written."""
    return SPELLINGS.search(data.lower())


def test_the_search_finds_every_spelling():
    for text in (CANARY, CANARY.title(), CANARY.lower()):
        for code in ("utf-8", "utf-16", "utf-16-be"):
            assert says(b"a" + text.encode(code) + b"b"), (text, code)
    for before in range(3):
        for text in (CANARY, CANARY.lower()):
            assert says(base64.b64encode(b"y" * before + text.encode() + b"yz"))
    assert not says(b"the canary is silent")


def whole_way(ws, bad, run, commands):
    """Run commands, and look for the word in all that they print and leave behind."""
    for arguments, code in commands.items():
        returned, printed = run(*arguments)
        assert not says(printed), (arguments, printed)
        assert returned == code, (arguments, printed.decode())
        assert b"a bug" not in printed
    made = [p for p in ws.rglob("*") if p.is_file() and p.parent != ws / "data"]
    assert {"inventory.sqlite", "report.html"} <= {p.name for p in made}
    assert bool(bad) == any(p.name == "rejected.csv" for p in made)
    for path in made:
        assert not says(path.read_bytes()), path
        assert not says(str(path).encode())
    # The films do say it: the search would find it.
    assert says((ws / "data" / "0-PA.dcm").read_bytes())


def test_a_patients_name_is_nowhere(tmp_path, monkeypatch, capfdbinary):
    """Every verb in this process; decoders are processes of their own."""
    monkeypatch.delenv("MVP_DEBUG", raising=False)
    ws = tmp_path / "ws"
    bad = write_workspace(ws, with_damage=True)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["mvp", *arguments, "-w", str(ws)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out = capfdbinary.readouterr()
        return int(stop.value.code or 0), out.out + out.err

    commands = {
        ("check",): 3,
        ("run",): 4,
        ("score", str(ws / "studies.csv"), "--json"): 4,
        ("cache", "verify"): 0,
    }
    whole_way(ws, bad, run, commands)


@pytest.mark.slow
@pytest.mark.parametrize("with_damage", [True, False])
def test_a_patients_name_is_nowhere_on_the_real_command_line(tmp_path, with_damage):
    ws = tmp_path / "ws"
    bad = write_workspace(ws, with_damage)
    table = str(ws / "studies.csv")
    commands = {
        ("check",): 3 if bad else 0,
        ("run",): 4 if bad else 0,
        ("extract", "--json"): 4 if bad else 0,
        ("score", table): 4 if bad else 0,
        ("score", table, "--json", "--out", str(ws / "again.csv")): 4 if bad else 0,
        ("cache", "verify"): 0,
        ("cache", "verify", "--sample", "4", "--json"): 0,
        ("score", str(ws / "none.csv")): 3,
        ("check", "--json"): 3 if bad else 0,
    }
    whole_way(ws, bad, lambda *arguments: real(ws, *arguments), commands)
