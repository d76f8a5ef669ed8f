"""Nearly the same pixels: a film saved again is found, another film is not."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from mvp.data.phantoms import render, visits
from mvp.data.splits import near
from mvp.data.splits.near import CROWD, LOOK_BYTES, near_pairs, shows_something, thumbnail
from mvp.data.splits.near_fit import similarity

SIDE = 192


def texture(seed):
    """(192, 192) uint8: shapes of many sizes, as on a film, and no two seeds alike."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(rng.normal(size=(n, n)).astype(np.float32)).resize((SIDE, SIDE), 3)
        )
        for n in (4, 8, 16, 32, 64)
    ]
    total = sum(layers)
    return np.clip(128 + 35 * total, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def films():
    return [texture(seed) for seed in range(24)]


def jpeg(pixels, quality):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def smaller(pixels):
    return np.asarray(Image.fromarray(pixels).resize((SIDE // 2, SIDE // 3)))


def cropped(pixels):
    cut = round(0.02 * SIDE)
    return pixels[cut:-cut, cut:-cut]


def framed(pixels):
    return np.pad(pixels, ((30, 30), (0, 0)))


COPIES = {
    "jpeg": lambda p: jpeg(p, 50),
    "smaller": smaller,
    "16 bits": lambda p: p.astype(np.uint16) * 257,
    "floats": lambda p: p.astype(np.float32) / 255,
    "gamma": lambda p: (255 * (p / 255) ** 1.2).astype(np.uint8),
    "brighter": lambda p: np.clip(p * 0.8 + 40, 0, 255).astype(np.uint8),
    "cropped": cropped,
    "framed": framed,
    "in colour": lambda p: np.stack([p] * 3, axis=-1),
}
OTHERS = {
    "mirrored": lambda p: p[:, ::-1],
    "upside down": lambda p: p[::-1],
    "inverted": lambda p: 255 - p,
}


def found(films, change):
    """Films whose changed copy is found, and pairs of different films."""
    looks = {f"{i} own": thumbnail(film) for i, film in enumerate(films)}
    looks |= {f"{i} copy": thumbnail(change(film)) for i, film in enumerate(films)}
    pairs = [(p.first.split()[0], p.second.split()[0]) for p in near_pairs(looks).pairs]
    return sum(a == b for a, b in pairs), [pair for pair in pairs if pair[0] != pair[1]]


@pytest.mark.parametrize("change", COPIES)
def test_a_film_saved_again_is_found_and_no_other(films, change):
    assert found(films, COPIES[change]) == (len(films), [])


@pytest.mark.parametrize("change", OTHERS)
def test_a_film_turned_or_inverted_is_another(films, change):
    assert found(films, OTHERS[change])[0] == 0


def test_different_films_of_one_kind_are_not_near_and_a_copy_among_them_is():
    """Phantoms are a few solids: more alike than any two real films."""
    looks, first = {}, None
    for patient, phantom, _ in visits(3):
        if str(patient) not in looks:
            film = render(phantom, 96)["frontal"]
            looks[str(patient)] = thumbnail(film)
            first = film if first is None else first
        if len(looks) == 150:
            break
    assert near_pairs(looks).pairs == ()
    looks["copy"] = thumbnail(jpeg(first, 60))
    assert [(p.first, p.second) for p in near_pairs(looks).pairs] == [("0", "copy")]


def test_a_look_is_small_and_always_the_same(films):
    look = thumbnail(films[0])
    assert len(look) == LOOK_BYTES
    assert thumbnail(films[0].copy()) == look
    assert thumbnail(films[1]) != look


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (3, 2), (7, 9, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_any_shape_and_type_has_a_look(shape, dtype):
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    assert len(thumbnail(pixels)) == LOOK_BYTES


def test_extreme_floats_have_a_look():
    pixels = np.zeros((40, 40), np.float32)
    pixels[5:20], pixels[20:] = -3e38, 3e38
    pixels[0, 0] = np.nan
    with np.errstate(all="raise"):
        assert shows_something(thumbnail(pixels).hex())


def test_a_blank_image_is_near_to_nothing(films):
    blank = {f"blank {i}": thumbnail(np.full((50, 40 + i), 7 * i, np.uint8)) for i in range(30)}
    result = near_pairs(blank | {"film": thumbnail(films[0])})
    assert result.pairs == ()
    assert result.blank == 30
    assert not shows_something(blank["blank 3"].hex())
    assert not shows_something("")


def test_a_crowd_of_alike_images_is_counted_not_listed(films):
    looks = {f"pattern {i}": thumbnail(films[0]) for i in range(CROWD + 1)}
    looks |= {"own": thumbnail(films[1]), "copy": thumbnail(jpeg(films[1], 50))}
    result = near_pairs(looks)
    assert [(p.first, p.second) for p in result.pairs] == [("own", "copy")]
    assert result.crowded == CROWD + 1


def test_as_many_copies_as_a_film_may_have_hang_together(films):
    looks = {str(i): thumbnail(films[0]) for i in range(CROWD)}
    result = near_pairs(looks)
    assert result.crowded == 0
    linked = {p.first for p in result.pairs} | {p.second for p in result.pairs}
    assert linked == set(looks)


def test_pairs_come_in_the_order_of_the_looks_and_twice_the_same(films):
    looks = {}
    for i in (5, 2, 9):
        looks |= {f"{i} copy": thumbnail(jpeg(films[i], 40)), f"{i}": thumbnail(films[i])}
    once, again = near_pairs(looks), near_pairs(looks)
    assert once == again
    assert [p.first for p in once.pairs] == ["5 copy", "2 copy", "9 copy"]
    assert all(p.similarity >= near.NEAR for p in once.pairs)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_looks(films, count):
    looks = {str(i): thumbnail(film) for i, film in enumerate(films[:count])}
    assert near_pairs(looks).pairs == ()


def test_of_pictures_laid_out_alike_the_likeliest_pairs_are_fitted(monkeypatch):
    rng = np.random.default_rng(1)
    common = rng.normal(size=(8, 8)) * 3
    cells = np.kron(common + rng.normal(size=(150, 8, 8)), np.ones((4, 4)))
    grey = np.clip(cells * 12 + 120 + rng.normal(size=cells.shape), 0, 255).astype(np.uint8)
    looks = {str(i): look.tobytes() for i, look in enumerate(grey)}
    looks["copy"] = np.clip(grey[7] * 0.97 + 3, 0, 255).astype(np.uint8).tobytes()
    fitted = []

    def counted(looks, pairs, *how):
        fitted.append(len(pairs))
        return similarity(looks, pairs, *how)

    monkeypatch.setattr(near, "similarity", counted)
    assert ("7", "copy") in [(p.first, p.second) for p in near_pairs(looks).pairs]
    assert max(fitted) > 4000
    fitted.clear()
    monkeypatch.setattr(near, "_MOST", 99)
    monkeypatch.setattr(near, "_DRAWN", 99)
    assert ("7", "copy") in [(p.first, p.second) for p in near_pairs(looks).pairs]
    assert max(fitted) == 250


@pytest.mark.slow
def test_the_search_does_not_grow_with_the_square():
    """Noise: as many looks as possible that have nothing in common."""
    rng = np.random.default_rng(0)

    def seconds(count):
        looks = {str(i): rng.bytes(LOOK_BYTES) for i in range(count)}
        start = time.perf_counter()
        assert near_pairs(looks).pairs == ()
        return time.perf_counter() - start

    seconds(1000)
    assert seconds(40_000) < 10 * max(seconds(8000), 0.2)
