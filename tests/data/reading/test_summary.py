"""What a view's files hold, in one line."""

from mvp.data.reading.inventory import FileRecord
from mvp.data.reading.summary import summarise, summary_text


def record(shape, bits=8, instances=1, error=""):
    return FileRecord("f", "d", "p", error, shape, bits, instances)


def test_images_of_several_depths_and_sizes():
    found = summarise([record((3056, 2544), 16), record((256, 256)), record((500, 400, 3))])
    assert summary_text("frontal", found) == (
        "frontal: 3 images, 8 and 16 bit, 256×256 to 3056×2544"
    )
    assert found["instances"] == 3
    assert found["slices"] == []


def test_volumes_and_images():
    volumes = [record((256, 256), 8, n) for n in (17, 61, 30)]
    found = summarise(volumes)
    text = summary_text("mri", found)
    assert text == "mri: 3 volumes, 17–61 slices, 108 rows in all, 8 bit, 256×256"
    assert summary_text("mri", summarise([*volumes, record((9, 9))])) == (
        "mri: 1 images, 3 volumes, 17–61 slices, 109 rows in all, 8 bit, 9×9 to 256×256"
    )


def test_what_cannot_be_read_is_left_out():
    found = summarise([record((), 0, 0, "damaged"), record((4, 4), 8)])
    assert found["images"] == 1
    assert summary_text("v", summarise([record((), 0, 0, "damaged")])) == "v: 0 images"


def test_texts_have_a_length_and_no_size():
    found = summarise([record((120,)), record((7,)), record((), 0, 0, "blank")])
    assert summary_text("report", found) == "report: 2 texts, 7–120 characters"
    assert found["images"] == 0
