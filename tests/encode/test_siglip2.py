"""SigLIP and SigLIP 2 against transformers' own model, image processor and tokenizers, on tiny random weights."""

from __future__ import annotations

import io
import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import sentencepiece
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipProcessor,
    SiglipTokenizer,
)

from ivsearch.domain import Ingested
from ivsearch.encode import load_encoder
from ivsearch.encode.siglip2 import unit_rows
from ivsearch.encode.siglip_tokens import read_tokens
from ivsearch.errors import UsageError, WeightsError
from ivsearch.library import open_library
from ivsearch.pictures import Transparency

SENTENCES = [
    "a cat on a sofa",
    "two dogs run over the beach",
    "eine Katze auf dem Sofa",
    "кошка на диване",
    "一只猫在沙发上",
    "ソファの上の猫",
    "قطة على الأريكة",
]
TEXTS = [
    *SENTENCES,
    "A Cat on a SOFA!",
    "Кошка, НА диване?",
    "x",
    "  two   spaces ",
    "a cat on a sofa " * 30,
    "naïve 猫 🐈",
]
N_TOKENS = 64
SIDE = 32


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> NoReturn:
        raise AssertionError("a test asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def save_gemma_tokenizer(folder: Path) -> None:
    """Made as Gemma's is: BPE with byte fallback, spaces marked, ``<eos>`` added at the end."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=special + [f"<0x{byte:02X}>" for byte in range(256)], show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    # As the hub's SigLIP 2 has it: a class that would neither lower-case nor, by itself, pad on the right.
    settings = {"tokenizer_class": "GemmaTokenizer", "padding_side": "right", "model_input_names": ["input_ids"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")


def save_siglip_tokenizer(folder: Path) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([sentence.lower() for sentence in SENTENCES] * 5),
        model_writer=model,
        vocab_size=150,
        hard_vocab_limit=False,
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(model.getvalue())


def save_model(folder: Path) -> Path:
    """Network and image processor, as ``save_pretrained`` writes them."""
    torch.manual_seed(5)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = SiglipConfig(
        text_config={**tower, "vocab_size": 600, "bos_token_id": 2, "eos_token_id": 1},
        vision_config={**tower, "image_size": SIDE, "patch_size": 8},
    )
    network = SiglipModel(config)
    with torch.no_grad():
        for parameter in network.parameters():  # the usual start is so small that all vectors are nearly alike
            if parameter.ndim > 1:
                parameter.normal_(std=0.4)
    network.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}, resample=2).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def siglip2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_model(tmp_path_factory.mktemp("models") / "tiny-siglip2")
    save_gemma_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def siglip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_model(tmp_path_factory.mktemp("models") / "tiny-siglip")
    save_siglip_tokenizer(folder)
    return folder


@pytest.fixture
def copy(siglip2_folder: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(siglip2_folder, tmp_path / "copy"))


def pictures() -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(8)
    small = [random.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in ((5, 7), (9, 4), (6, 6))]
    sizes = [(120, 90), (31, 77), (32, 32)]
    return [np.asarray(Image.fromarray(a).resize(size)) for a, size in zip(small, sizes, strict=True)]


def unit(rows: torch.Tensor) -> NDArray[np.float32]:
    return (rows / rows.norm(dim=-1, keepdim=True)).numpy()


def truth_of_texts(folder: Path, ids: torch.Tensor) -> NDArray[np.float32]:
    with torch.no_grad():
        return unit(SiglipModel.from_pretrained(folder).eval().get_text_features(input_ids=ids).pooler_output)


def gemma_ids(folder: Path) -> torch.Tensor:
    """As transformers' conversion of SigLIP 2 sets its tokenizer up, in the class that lower-cases."""
    tokenizer = Siglip2Tokenizer.from_pretrained(folder, padding_side="right")
    return torch.tensor(tokenizer(TEXTS, padding="max_length", truncation=True, max_length=N_TOKENS)["input_ids"])


def test_pictures_get_the_vectors_transformers_gives_them(siglip2_folder: Path) -> None:
    processor = SiglipImageProcessorPil.from_pretrained(siglip2_folder)
    pixels = processor([Image.fromarray(each) for each in pictures()], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        truth = unit(SiglipModel.from_pretrained(siglip2_folder).eval().get_image_features(pixels).pooler_output)
    encoder = load_encoder(f"siglip2:{siglip2_folder}")
    batch = encoder.preprocess(pictures())
    assert batch.shape == (3, 3, SIDE, SIDE)
    np.testing.assert_allclose(batch, pixels.numpy(), atol=1e-6)
    vectors = encoder.encode_images(batch).vectors
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, truth, atol=1e-5)
    assert np.abs(truth[0] - truth[1]).max() > 0.01, "the truth must tell pictures apart"


def test_texts_get_the_vectors_transformers_gives_them(siglip2_folder: Path) -> None:
    truth = truth_of_texts(siglip2_folder, gemma_ids(siglip2_folder))
    np.testing.assert_allclose(load_encoder(f"siglip2:{siglip2_folder}").encode_texts(TEXTS).vectors, truth, atol=1e-5)
    assert np.abs(truth[0] - truth[1]).max() > 0.01, "the truth must tell texts apart"


def test_siglip_2_ids_are_lower_case_with_one_end_and_right_padding(siglip2_folder: Path) -> None:
    ids = read_tokens(siglip2_folder).encode(TEXTS, N_TOKENS)
    np.testing.assert_array_equal(ids, gemma_ids(siglip2_folder).numpy())
    np.testing.assert_array_equal(ids[0, -1], 0)
    assert ids[TEXTS.index("a cat on a sofa " * 30), -1] == 1


def test_siglip_ids_are_those_of_its_tokenizer(siglip_folder: Path) -> None:
    pytest.importorskip("google.protobuf", reason="transformers' SiglipTokenizer needs protobuf")
    tokenizer = SiglipTokenizer.from_pretrained(siglip_folder)
    truth = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=N_TOKENS)["input_ids"]
    np.testing.assert_array_equal(read_tokens(siglip_folder).encode(TEXTS, N_TOKENS), truth)
    encoder = load_encoder(f"siglip2:{siglip_folder}")
    expected = truth_of_texts(siglip_folder, torch.tensor(truth))
    np.testing.assert_allclose(encoder.encode_texts(TEXTS).vectors, expected, atol=1e-5)


def test_a_text_in_a_batch_is_that_text_alone(siglip2_folder: Path) -> None:
    encoder = load_encoder(f"siglip2:{siglip2_folder}")
    many = TEXTS * 6
    together = encoder.encode_texts(many).vectors
    alone = np.concatenate([encoder.encode_texts([text]).vectors for text in TEXTS])
    np.testing.assert_allclose(together, np.concatenate([alone] * 6), atol=1e-6)


def test_features_may_be_a_tensor() -> None:
    np.testing.assert_allclose(unit_rows(torch.tensor([[3.0, 4.0]])), [[0.6, 0.8]])


def test_nothing_in_nothing_out(siglip2_folder: Path) -> None:
    encoder = load_encoder(f"siglip2:{siglip2_folder}")
    assert encoder.encode_texts([]).vectors.shape == (0, 32)
    assert encoder.encode_images(encoder.preprocess([])).vectors.shape == (0, 32)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_close(siglip2_folder: Path, dtype: str) -> None:
    full, half = (load_encoder(f"siglip2:{siglip2_folder}", dtype=each) for each in ("float32", dtype))
    for vectors, truth in (
        (half.encode_texts(TEXTS).vectors, full.encode_texts(TEXTS).vectors),
        (
            half.encode_images(half.preprocess(pictures())).vectors,
            full.encode_images(full.preprocess(pictures())).vectors,
        ),
    ):
        assert vectors.dtype == np.float32
        assert (vectors * truth).sum(axis=1).min() > 0.995
    assert half.space == full.space


def test_another_way_to_prepare_pictures_is_another_space(siglip2_folder: Path) -> None:
    own, same, other = (
        load_encoder(f"siglip2:{siglip2_folder}", preprocess=way) for way in (None, "retrieval", "clip")
    )
    assert own.space == same.space
    assert own.space.revision != other.space.revision
    wide = [pictures()[0]]
    assert np.abs(own.preprocess(wide) - other.preprocess(wide)).max() > 0.01


def test_weights_name_the_files_and_the_variant_the_space(siglip2_folder: Path) -> None:
    by_folder = load_encoder(f"siglip2:{siglip2_folder}")
    by_weights = load_encoder("siglip2:google/my-own", weights=siglip2_folder)
    assert (by_folder.space.encoder, by_weights.space.encoder) == ("siglip2:tiny-siglip2", "siglip2:google/my-own")
    assert by_folder.space.revision == by_weights.space.revision
    assert by_folder.space.dim == 32
    assert by_folder.transparency is Transparency.DROPPED


def test_other_weights_and_another_tokenizer_are_other_spaces(copy: Path) -> None:
    revisions = {load_encoder(f"siglip2:{copy}").space.revision}
    weights = load_file(copy / "model.safetensors")
    weights["logit_scale"] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    revisions.add(load_encoder(f"siglip2:{copy}").space.revision)
    text = (copy / "tokenizer.json").read_text("utf-8")
    (copy / "tokenizer.json").write_text(text + "\n", "utf-8")
    revisions.add(load_encoder(f"siglip2:{copy}").space.revision)
    assert len(revisions) == 3


def test_another_layout_of_the_same_weights_is_another_space(copy: Path) -> None:
    revisions = {load_encoder(f"siglip2:{copy}").space.revision}
    config = json.loads((copy / "config.json").read_text("utf-8"))
    for tower in ("vision_config", "text_config"):  # what no shape of a weight tells
        config[tower]["num_attention_heads"] = 4
        (copy / "config.json").write_text(json.dumps(config), "utf-8")
        revisions.add(load_encoder(f"siglip2:{copy}").space.revision)
    assert len(revisions) == 3


def test_capitals_kept_are_another_space(siglip_folder: Path, tmp_path: Path) -> None:
    kept = Path(shutil.copytree(siglip_folder, tmp_path / siglip_folder.name))
    (kept / "tokenizer_config.json").write_text('{"do_lower_case": false}', "utf-8")
    spaces = [load_encoder(f"siglip2:{folder}").space for folder in (siglip_folder, kept)]
    assert spaces[0].encoder == spaces[1].encoder and spaces[0].revision != spaces[1].revision
    (kept / "tokenizer_config.json").write_text("{", "utf-8")
    with pytest.raises(WeightsError, match=r"tokenizer_config\.json cannot be read as JSON"):
        load_encoder(f"siglip2:{kept}")


def test_the_processor_file_of_transformers_5_is_read(copy: Path, siglip2_folder: Path) -> None:
    (copy / "preprocessor_config.json").unlink()
    tokenizer = Siglip2Tokenizer.from_pretrained(siglip2_folder)
    SiglipProcessor(SiglipImageProcessorPil.from_pretrained(siglip2_folder), tokenizer).save_pretrained(copy / "new")
    shutil.copy(copy / "new" / "processor_config.json", copy)
    here, there = (load_encoder(f"siglip2:{folder}") for folder in (copy, siglip2_folder))
    np.testing.assert_array_equal(here.preprocess(pictures()), there.preprocess(pictures()))


def test_a_library_is_indexed_and_searched(siglip2_folder: Path, sample_media: Path, tmp_path: Path) -> None:
    photos = sorted(sample_media.rglob("*.jpg"))[:2] + sorted(sample_media.rglob("*.png"))[:1]
    assert len(photos) >= 2
    with open_library(tmp_path / "library", encoder=f"siglip2:{siglip2_folder}") as library:
        assert all(isinstance(event, Ingested) for event in library.index(photos))
        assert library.search("кошка на диване", k=5)
        hit = library.search(image=photos[0], k=1)[0]
        assert hit.path == photos[0]
        assert hit.score == pytest.approx(1, abs=1e-3)
    with open_library(tmp_path / "library") as again:  # knows by itself which folder its encoder is
        assert again.search(image=photos[1], k=1)[0].path == photos[1]


# ---- what loading refuses ----


def change_json(file: Path, **changes: object) -> None:
    content = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(content | changes), "utf-8")


def drop_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["text_model.head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def add_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "extra": torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"})


def cut_the_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{", "utf-8")


def forget_the_end_token(folder: Path) -> None:
    text = (folder / "tokenizer.json").read_text("utf-8")
    (folder / "tokenizer.json").write_text(text.replace("<eos>", "<end>"), "utf-8")


def spoil_the_pieces(folder: Path) -> None:
    (folder / "spiece.model").write_bytes(b"not pieces")


def project_elsewhere(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    change_json(folder / "config.json", text_config=config["text_config"] | {"projection_size": 16})


def leave_the_processor_out(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text("{}", "utf-8")


BREAKS: list[tuple[Callable[[Path], object], str]] = [
    (drop_a_weight, r"copy does not hold the weights of a SigLIP model: missing text_model\.head\.weight"),
    (add_a_weight, r"copy does not hold the weights of a SigLIP model: unexpected extra"),
    (
        lambda folder: (folder / "tokenizer.json").unlink(),
        r"copy has no tokenizer \(spiece\.model or tokenizer\.json\)",
    ),
    (cut_the_tokenizer, r"tokenizer\.json is not a tokenizer \(.*\); download it again"),
    (forget_the_end_token, r"tokenizer\.json has no token <eos>: it is not the tokenizer of a SigLIP 2 model"),
    (spoil_the_pieces, r"spiece\.model is not a SentencePiece model; download it again"),
    (project_elsewhere, r"copy: its pictures and texts do not get vectors of one size: name a model made for search"),
    (
        lambda folder: change_json(folder / "config.json", model_type="siglip2"),
        r"copy is a NaFlex model, whose pictures keep their shape: not supported\. Take one of a fixed resolution",
    ),
    (
        lambda folder: change_json(folder / "config.json", model_type="clip"),
        r"copy holds a model of type 'clip', not 'siglip': for CLIP and its kin there is the encoder openclip",
    ),
    (
        lambda folder: change_json(folder / "config.json", vision_config={"hidden_size": "wide"}),
        r"config\.json is no config of a SigLIP model \(",
    ),
    (
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        r"copy has no preprocessor_config\.json: download the whole model",
    ),
    (
        lambda folder: change_json(folder / "preprocessor_config.json", size={"height": 64, "width": 64}),
        r"makes pictures of size \{'height': 64, 'width': 64\}, but the network takes 32 × 32 pixels",
    ),
    (
        lambda folder: (folder / "preprocessor_config.json").write_text('{"size": ', "utf-8"),
        r"preprocessor_config\.json cannot be read as JSON \(.*\): download it again",
    ),
    (
        lambda folder: (folder / "preprocessor_config.json").write_text("[]", "utf-8"),
        r"preprocessor_config\.json should hold a JSON object, not list: download it again",
    ),
    (
        lambda folder: change_json(folder / "preprocessor_config.json", image_mean=None),
        r"preprocessor_config\.json has a setting that makes no sense \(.*\): download it again",
    ),
    (
        lambda folder: change_json(folder / "preprocessor_config.json", image_std=[0.5, 0.5, 0]),
        r"makes no sense \(image_mean and image_std must be three numbers each, image_std not 0\)",
    ),
    (leave_the_processor_out, r"processor_config\.json says nothing of an image processor: download it again"),
    (
        lambda folder: change_json(folder / "preprocessor_config.json", do_normalize=False),
        r"leaves out do_resize, do_rescale, do_normalize or scales by .* instead of 1/255: not supported",
    ),
    (
        lambda folder: change_json(folder / "preprocessor_config.json", rescale_factor=1 / 127.5),
        r"leaves out do_resize, do_rescale, do_normalize or scales by 0\.0078.* instead of 1/255: not supported",
    ),
]


@pytest.mark.parametrize(("spoil", "message"), BREAKS)
def test_a_broken_model_is_named(copy: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(copy)
    with pytest.raises(WeightsError, match=message):
        load_encoder(f"siglip2:{copy}")


def test_a_model_that_is_nowhere_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="nobody/nothing is no folder here"):
        load_encoder("siglip2:nobody/nothing")


def test_an_empty_text_is_refused(siglip2_folder: Path) -> None:
    with pytest.raises(UsageError, match="an empty text cannot be searched for: say what to look for"):
        load_encoder(f"siglip2:{siglip2_folder}").encode_texts(["a", " "])


def test_a_text_that_is_no_unicode_is_refused(siglip2_folder: Path, siglip_folder: Path) -> None:
    for folder in (siglip2_folder, siglip_folder):
        with pytest.raises(UsageError, match="the text is not valid Unicode: check the encoding of the terminal"):
            load_encoder(f"siglip2:{folder}").encode_texts(["a", "a \ud83d"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "fp8"}, r"encoder 'siglip2:a/b' cannot run in dtype 'fp8'; known: float32, bfloat16, float16"),
        ({"device": "cuda:9"}, r"encoder 'siglip2:a/b' cannot run on device 'cuda:9': available here: cpu"),
        ({"attention": "flash"}, r"encoder 'siglip2:a/b' runs with attention 'sdpa', not 'flash': leave it out"),
        ({"preprocess": "stretch"}, r"there is no way 'stretch' to prepare pictures; known: retrieval"),
    ],
)
def test_what_it_cannot_do_is_refused(siglip2_folder: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_encoder("siglip2:a/b", weights=siglip2_folder, **options)
