"""DICOM files for tests, made here."""

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian  # noqa: E402

CANARY = "ZZCANARY"


def film(dtype=np.uint16, bits=12):
    """(10, 14): brighter to the right and to the bottom, a bright mark at the upper left."""
    top = (1 << bits) - 1
    ramp = np.add.outer(np.arange(10) * 3, np.arange(14) * 2).astype(np.float64)
    values = (ramp / ramp.max() * top * 0.6).astype(dtype)
    values[1:4, 1:3] = top
    return values


def dataset(pixels, photometric="MONOCHROME2", bits=None, syntax=ExplicitVRLittleEndian, **extra):
    """A dataset of these pixels, with a patient's name that must never be seen again."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = "1.2.3"
    ds.PatientName = ds.PatientID = ds.StudyDescription = CANARY
    bits = bits or pixels.dtype.itemsize * 8
    colour = photometric in ("RGB", "YBR_FULL")
    frames = pixels.ndim == 3 + colour
    rows, columns = pixels.shape[frames : frames + 2]
    if frames:
        ds.NumberOfFrames = len(pixels)
    ds.Rows, ds.Columns = rows, columns
    ds.SamplesPerPixel = 3 if colour else 1
    if colour:
        ds.PlanarConfiguration = 0
    ds.PhotometricInterpretation = photometric
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = pixels.dtype.itemsize * 8, bits, bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OW" if ds.BitsAllocated > 8 else "OB"
    for name, value in extra.items():
        setattr(ds, name, value)
    return ds


def save(folder, ds, name="a.dcm"):
    """The dataset as a file."""
    path = folder / name
    ds.save_as(path, enforce_file_format=True)
    return path
