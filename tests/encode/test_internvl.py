"""``internvl-c``, ``internvl-g`` and ``internvit`` through ``load_encoder``: official vectors, clear refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ivsearch.encode import embed_images, load_encoder
from ivsearch.encode.internvit import InternViTEncoder
from ivsearch.encode.internvl import InternVLEncoder
from ivsearch.errors import NotFinite, UsageError, WeightsError
from ivsearch.models.checkpoint import Checkpoint
from ivsearch.models.lazy_internvl import LazyInternVL, Part
from tests.parity import INTERNVL_14B, Parity, unit

Change = Callable[[dict[str, torch.Tensor]], None]


@pytest.fixture(scope="module")
def single(shared: Path) -> Parity:
    return Parity(shared / "parity" / "internvl14b_single")


@pytest.fixture
def copy(single: Parity, tmp_path: Path) -> Path:
    """The checkpoint, to be broken."""
    folder = tmp_path / "weights"
    shutil.copytree(single.folder, folder, ignore=shutil.ignore_patterns("expected.npz"))
    for path in [folder, *folder.iterdir()]:
        path.chmod(0o755)
    return folder


def change_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def spoil(encoder: InternVLEncoder) -> None:
    model = encoder.weights.need(Part.TEXT)
    model.text_projection = torch.nn.Parameter(
        torch.full_like(model.text_projection, float("inf")), requires_grad=False
    )


def change_inner(folder: Path, part: str, **values: object) -> None:
    inner = json.loads((folder / "config.json").read_text())[part]
    change_config(folder, **{part: inner | values})


@pytest.mark.parametrize("name", INTERNVL_14B)
def test_vectors_are_the_official_ones_made_unit(shared: Path, name: str) -> None:
    parity = Parity(shared / "parity" / name)
    c = load_encoder("internvl-c", weights=parity.folder, preprocess="clip")
    g = load_encoder("internvl-g", weights=str(parity.folder), preprocess="clip", dtype="float32", device="cpu")
    assert c.space.dim == g.space.dim == parity.expected["text_embeds"].shape[1]
    assert c.space != g.space
    for encoder, array in ((c, "image_embeds_C"), (g, "image_embeds_G")):
        found = embed_images(encoder, parity.paths, batch_size=2).vectors
        np.testing.assert_allclose(found, unit(parity.expected[array]), atol=1e-5)
        texts = encoder.encode_texts(parity.texts["texts"]).vectors
        np.testing.assert_allclose(texts, unit(parity.expected["text_embeds"]), atol=1e-5)


@pytest.mark.parametrize("name", ["internvit_6b", "internvit_300m"])
def test_a_stand_alone_vit_gives_the_official_class_token(shared: Path, name: str) -> None:
    parity = Parity(shared / "parity" / name)
    encoder = load_encoder(f"internvit:{parity.folder}", preprocess="clip")
    assert encoder.space.encoder == f"internvit:{name}"
    np.testing.assert_allclose(
        embed_images(encoder, parity.paths).vectors, unit(parity.expected["native_pooler"]), atol=1e-5
    )
    with pytest.raises(UsageError, match=r"has no text side: of the InternViT family only .*`ivsearch spaces back`"):
        encoder.encode_texts(["a cat"])


def test_official_vits_have_short_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="OpenGVLab/InternViT-300M-448px"):
        load_encoder("internvit:300M-448px")


def test_nothing_in_is_nothing_out(single: Parity) -> None:
    encoder = load_encoder("internvl-g", weights=single.folder)
    assert isinstance(encoder, InternVLEncoder)
    none = encoder.preprocess([])
    assert encoder.encode_images(none).vectors.shape == (0, 48)
    assert encoder.encode_texts([]).vectors.shape == (0, 48)
    assert encoder.caption(none) == []
    assert encoder.match(none, []).shape == (0,)


def test_a_text_alone_is_the_text_among_others(single: Parity) -> None:
    encoder = load_encoder("internvl-c", weights=single.folder)
    texts = single.texts["texts"] + single.texts["special_texts"]
    together = encoder.encode_texts(texts).vectors
    alone = np.concatenate([encoder.encode_texts([text]).vectors for text in texts])
    np.testing.assert_allclose(together, alone, atol=2e-6)


def test_captions_are_the_official_ones(single: Parity) -> None:
    encoder = load_encoder("internvl-g", weights=single.folder, preprocess="clip")
    assert isinstance(encoder, InternVLEncoder)
    batch = encoder.preprocess(single.pictures)
    limit = single.notes["generation"]["max_new_tokens"]
    greedy = encoder.caption(batch, beams=1, min_new_tokens=0, max_new_tokens=limit)
    assert [each.text for each in greedy] == single.texts["caption_greedy_text"]
    ids = [list(each.token_ids) for each in greedy]
    assert [[*row, *[0] * (limit - len(row))] for row in ids] == single.expected["caption_greedy"].tolist()
    (beam,) = encoder.caption(batch[:1], beams=5, min_new_tokens=8, max_new_tokens=limit)
    assert list(beam.token_ids) == single.expected["caption_beam5"][0].tolist()
    # Pictures of a batch do not see each other.
    both = encoder.caption(batch[:2], beams=5, min_new_tokens=8, max_new_tokens=limit)
    assert both[0] == beam


def test_only_the_tower_that_is_used_is_read(single: Parity) -> None:
    encoder = load_encoder("internvl-c", weights=single.folder)
    assert isinstance(encoder, InternVLEncoder)
    model = encoder.weights.copies[0]

    def read() -> set[Part]:
        state = model.state_dict()
        return {part for part in Part if not any(state[name].is_meta for name in state if part.holds(name))}

    assert read() == set()
    encoder.encode_texts(["a cat"])
    assert read() == {Part.TEXT}
    encoder.encode_images(encoder.preprocess(single.pictures))
    assert read() == {Part.TEXT, Part.VISION}
    sibling = encoder.sibling("internvl-g")
    assert sibling is not None and sibling.weights is encoder.weights
    sibling.encode_images(encoder.preprocess(single.pictures))
    assert read() == {Part.TEXT, Part.VISION, Part.QUERIES}
    assert encoder.sibling("mini") is None


def test_every_tensor_belongs_to_one_part(single: Parity) -> None:
    names = load_file(single.folder / "model.safetensors")
    assert [name for name in names if sum(part.holds(name) for part in Part) != 1] == []


def test_the_space_knows_weights_tokenizer_and_preprocessing(single: Parity, copy: Path) -> None:
    space = load_encoder("internvl-c", weights=single.folder).space
    assert load_encoder("internvl-c", weights=copy).space == space
    assert load_encoder("internvl-c", weights=copy, preprocess="clip").space != space
    change_config(copy, attn_pool_num_heads=8)
    assert load_encoder("internvl-c", weights=copy).space != space
    shutil.copy(single.folder / "config.json", copy)
    (copy / "special_tokens_map.json").write_text('{"pad_token": "a"}')
    assert load_encoder("internvl-c", weights=copy).space != space
    shutil.copy(single.folder / "special_tokens_map.json", copy)
    assert load_encoder("internvl-c", weights=copy).space == space
    tensors = load_file(copy / "model.safetensors")
    tensors["vision_model.encoder.layers.1.norm1.weight"][3] += 0.5
    save_file(tensors, copy / "model.safetensors")
    assert load_encoder("internvl-c", weights=copy).space != space


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("clip_projector.norm1_q.bias"), "missing clip_projector.norm1_q.bias"),
        (
            lambda t: t.update({"text_projection": t["text_projection"].T.contiguous()}),
            r"misshaped text_projection is \[48, 64\] and should be \[64, 48\]",
        ),
        (lambda t: t.update({"vision_model.norm.weight": torch.ones(80)}), "unexpected vision_model.norm.weight"),
    ],
)
def test_other_tensors_are_refused_by_name(copy: Path, change: Change, message: str) -> None:
    tensors = load_file(copy / "model.safetensors")
    change(tensors)
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(WeightsError, match=message):
        load_encoder("internvl-c", weights=copy)


def test_whole_numbers_are_no_weights(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    tensors["text_projection"] = tensors["text_projection"].int()
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(
        WeightsError, match=r"tensor 'text_projection' is stored as torch\.int32, where the network has"
    ):
        load_encoder("internvl-c", weights=copy).encode_texts(["a cat"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"use_backbone_lora": 16}, "config.json: use_backbone_lora is 16; this ivsearch knows 0, None"),
        ({"qllama_config": None}, "config.json has no qllama_config: is this the folder of another model"),
        ({"clip_embed_dim": "many"}, "clip_embed_dim must be a whole number from 1 to 10000000, not 'many'"),
        ({"num_query_token": True}, "num_query_token must be a whole number from 1 to 10000000, not True"),
        (
            {"clip_embed_dim": 2**63},
            "clip_embed_dim must be a whole number from 1 to 10000000, not 92233720",
        ),
        ({"attn_pool_num_heads": 7}, "config.json: attn_pool_num_heads 7 does not divide hidden_size 80"),
    ],
)
def test_configs_of_other_models_are_refused(copy: Path, values: dict[str, object], message: str) -> None:
    change_config(copy, **values)
    with pytest.raises(WeightsError, match=message):
        load_encoder("internvl-c", weights=copy)


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("vision_config", {"hidden_size": None}, "vision_config has no hidden_size: is this the folder of another"),
        ("vision_config", {"hidden_act": "quick_gelu"}, "hidden_act is 'quick_gelu'; this ivsearch knows 'gelu'"),
        ("vision_config", {"norm_type": "batch_norm"}, "norm_type is 'batch_norm'; this ivsearch knows 'rms_norm'"),
        ("vision_config", {"num_attention_heads": 3}, "hidden_size 80 is not divisible by num_attention_heads 3"),
        ("vision_config", {"num_hidden_layers": 10**7}, "num_hidden_layers must be a whole number from 1 to 1000, not"),
        ("vision_config", {"layer_norm_eps": -1}, "layer_norm_eps must be a number above 0, not -1"),
        ("qllama_config", {"num_key_value_heads": 1}, "num_key_value_heads is 1; this ivsearch knows"),
        ("qllama_config", {"rope_scaling": {"type": "linear"}}, "rope_scaling is {'type': 'linear'}; this ivsearch"),
        ("qllama_config", {"rope_theta": 1e6}, r"rope_theta is 1000000\.0; this ivsearch knows 10000\.0, None"),
        ("qllama_config", {"eos_token_id": 5000}, "eos_token_id must be a token id below 1400, not 5000"),
        ("qllama_config", {"eos_token_id": True}, "eos_token_id must be a token id below 1400, not True"),
        ("qllama_config", {"vocab_size": 1000}, "misshaped qllama.model.embed_tokens.weight"),
    ],
)
def test_networks_this_code_does_not_know_are_refused(
    copy: Path, part: str, values: dict[str, object], message: str
) -> None:
    change_inner(copy, part, **values)
    with pytest.raises(WeightsError, match=message):
        load_encoder("internvl-c", weights=copy)


def test_a_missing_tokenizer_is_named(copy: Path) -> None:
    (copy / "tokenizer.model").unlink()
    with pytest.raises(WeightsError, match=r"tokenizer\.model is not there: texts cannot be read without it"):
        load_encoder("internvl-c", weights=copy)


def test_a_damaged_tokenizer_is_named(copy: Path) -> None:
    (copy / "tokenizer.model").write_bytes(b"no tokenizer")
    with pytest.raises(WeightsError, match=r"tokenizer\.model is damaged or no SentencePiece model"):
        load_encoder("internvl-c", weights=copy)


def test_the_tokenizer_of_a_larger_model_is_refused(shared: Path, copy: Path) -> None:
    shutil.copy(shared / "parity" / "internvl14b_realtok" / "tokenizer.model", copy / "tokenizer.model")
    with pytest.raises(
        WeightsError, match=r"tokenizer.model has 49954 pieces, the network only 1400: it is of another"
    ):
        load_encoder("internvl-c", weights=copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1", r"special_tokens_map\.json cannot be read as JSON"),
        ("[" * 100_000, r"special_tokens_map\.json cannot be read as JSON"),
        ("[]", r"special_tokens_map\.json should hold a JSON object, not list"),
        ('{"pad_token": {"id": 1}}', r"names a special token {'id': 1}: it must be a text"),
        ('{"pad_token": 7}', r"names a special token 7: it must be a text"),
        ('{"pad_token": "<|nowhere|>"}', r"tokenizer\.model has no piece '<|nowhere|>', which is named beside it"),
    ],
)
def test_a_damaged_list_of_special_tokens_is_named(copy: Path, text: str, message: str) -> None:
    (copy / "special_tokens_map.json").write_text(text)
    with pytest.raises(WeightsError, match=message):
        load_encoder("internvl-c", weights=copy)


def test_only_what_the_files_name_is_special(copy: Path) -> None:
    config = json.loads((copy / "tokenizer_config.json").read_text())
    assert config["pad_token"] is None
    (copy / "special_tokens_map.json").unlink()
    encoder = load_encoder("internvl-c", weights=copy)
    assert isinstance(encoder, InternVLEncoder)
    pieces = encoder.texts.pieces
    assert set(pieces.special) == {"<s>", "</s>", "<unk>"}
    assert pieces.encode("a [PAD] b") == pieces.processor.encode("a [PAD] b")
    (copy / "special_tokens_map.json").write_text('{"pad_token": null, "eos_token": ""}')
    again = load_encoder("internvl-c", weights=copy)
    assert isinstance(again, InternVLEncoder) and again.texts.pieces.special == pieces.special


def test_texts_that_are_no_unicode_are_refused(single: Parity) -> None:
    encoder = load_encoder("internvl-c", weights=single.folder)
    with pytest.raises(UsageError, match="the text is not valid Unicode: check the encoding of the terminal"):
        encoder.encode_texts(["a cat", "\ud800"])


def test_ids_beyond_the_tokenizer_are_no_words(single: Parity) -> None:
    encoder = load_encoder("internvl-c", weights=single.folder)
    assert isinstance(encoder, InternVLEncoder)
    ids = encoder.texts.pieces.encode("a cat")
    assert encoder.texts.pieces.decode([1, *ids, 5000, 2]) == encoder.texts.pieces.decode(ids) != ""


@pytest.mark.parametrize("beams", [1, 5])
def test_captions_keep_to_their_limits(single: Parity, beams: int) -> None:
    encoder = load_encoder("internvl-g", weights=single.folder)
    assert isinstance(encoder, InternVLEncoder)
    batch = encoder.preprocess(single.pictures[:2])
    none = encoder.caption(batch, beams=beams, min_new_tokens=0, max_new_tokens=0)
    assert [each.token_ids for each in none] == [(), ()]
    one = encoder.caption(batch, beams=beams, min_new_tokens=0, max_new_tokens=1)
    assert [len(each.token_ids) for each in one] == [1, 1]
    with pytest.raises(UsageError, match="captions cannot have 9 new tokens at least and 8 at most"):
        encoder.caption(batch, beams=beams, min_new_tokens=9, max_new_tokens=8)
    with pytest.raises(UsageError, match="the number of beams must be at least 1, not 0"):
        encoder.caption(batch, beams=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "cannot run in dtype 'int8'; known: float32, bfloat16, float16, fp8"),
        ({"dtype": "fp8"}, "'fp8' runs on a CUDA device of the Hopper generation or later, not on cpu"),
        ({"device": "cuda:9"}, "there is no device 'cuda:9'; here are: cpu"),
        ({"preprocess": "zoom"}, "there is no way 'zoom' to prepare pictures; known: retrieval, clip, classification"),
        ({"attention": "fast"}, "there is no attention 'fast'; known: sdpa, flash"),
        ({"attention": "flash"}, "attention 'flash' needs the package flash-attn: pip install flash-attn"),
    ],
)
def test_what_cannot_be_is_refused(single: Parity, options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_encoder("internvl-g", weights=single.folder, **options)


def test_flash_attention_on_a_cpu_is_refused(single: Parity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ivsearch.models.attention.importlib.util.find_spec", lambda name: object())
    with pytest.raises(UsageError, match="'flash' runs on a CUDA device in bfloat16 or float16"):
        load_encoder("internvl-g", weights=single.folder, attention="flash")


def test_a_vit_on_several_devices_is_refused(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ivsearch.models.spread.available_devices", lambda: ["cpu", "mps"])
    with pytest.raises(UsageError, match="'internvit' runs on one device, not on cpu,mps: name one of them"):
        load_encoder("internvit:x", weights=shared / "parity" / "internvit_6b", device="cpu,mps")


def test_an_older_gpu_has_no_fp8(monkeypatch: pytest.MonkeyPatch) -> None:
    from ivsearch.models.float8 import check_float8

    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA A100")
    with pytest.raises(UsageError, match="NVIDIA A100 is older: bfloat16"):
        check_float8(torch.device("cuda"))


def test_as_many_texts_as_pictures_are_matched(single: Parity) -> None:
    encoder = load_encoder("internvl-g", weights=single.folder)
    assert isinstance(encoder, InternVLEncoder)
    batch = encoder.preprocess(single.pictures)
    found = encoder.match(batch, ["a", "longer text", "b", "c", "d"])
    assert found.shape == (5,) and ((found > 0) & (found < 1)).all()
    # Padding behind a text is not seen.
    alone = encoder.match(batch[:1], ["a"])
    np.testing.assert_allclose(found[:1], alone, atol=1e-5)
    with pytest.raises(UsageError, match="there are 5 pictures and 1 texts to match: give as many of each"):
        encoder.match(batch, ["a"])


def test_what_is_not_finite_is_an_error_and_no_vector(copy: Path, single: Parity) -> None:
    tensors = load_file(copy / "model.safetensors")
    for name in tensors:
        if name.endswith(("ls1", "ls2")):
            tensors[name].fill_(60_000)
    save_file(tensors, copy / "model.safetensors")
    encoder = load_encoder("internvl-g", weights=copy, dtype="float16")
    assert isinstance(encoder, InternVLEncoder)
    batch = encoder.preprocess(single.pictures)
    for act in (
        lambda: encoder.encode_images(batch),
        lambda: encoder.caption(batch),
        lambda: encoder.match(batch, ["a"] * len(batch)),
    ):
        with pytest.raises(NotFinite, match="'internvl-g' gives no finite numbers in float16: take --dtype bfloat16"):
            act()
    spoil(encoder)
    with pytest.raises(NotFinite, match="'internvl-g' gives no finite numbers in float16: take"):
        encoder.encode_texts(["a cat"])
    wide = load_encoder("internvl-c", weights=single.folder)
    assert isinstance(wide, InternVLEncoder)
    spoil(wide)
    with pytest.raises(NotFinite, match="gives no finite numbers in float32: the weights may be damaged"):
        wide.encode_texts(["a cat"])


def test_a_vit_that_overflows_says_so(shared: Path, tmp_path: Path) -> None:
    parity = Parity(shared / "parity" / "internvit_6b")
    tensors = {name: 60_000 * value for name, value in load_file(parity.folder / "model.safetensors").items()}
    shutil.copy(parity.folder / "config.json", tmp_path)
    save_file({name: value.bfloat16() for name, value in tensors.items()}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"has values too large for torch\.float16: load it as float32 or bfloat16"):
        load_encoder("internvit:x", weights=tmp_path, dtype="float16")
    encoder = load_encoder("internvit:x", weights=parity.folder, dtype="bfloat16")
    assert isinstance(encoder, InternViTEncoder)
    encoder.model.encoder.blocks()[0].ls1.fill_(float("inf"))
    with pytest.raises(NotFinite, match="gives no finite numbers in bfloat16: take --dtype float32"):
        embed_images(encoder, parity.paths)


def test_too_little_memory_says_what_to_do(single: Parity, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Checkpoint, *args: object, **options: object) -> None:
        raise torch.OutOfMemoryError

    encoder = load_encoder("internvl-c", weights=single.folder)
    assert isinstance(encoder, InternVLEncoder)
    monkeypatch.setattr(Checkpoint, "fill", full)
    with pytest.raises(UsageError, match=r"no room for the weights: 0\.0 GiB in torch.float32 on cpu. Take --dtype"):
        encoder.encode_texts(["a cat"])


def test_fewer_pictures_at_once_when_memory_is_short(
    single: Parity, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = load_encoder("internvl-c", weights=single.folder, preprocess="clip")
    assert isinstance(encoder, InternVLEncoder)
    model = encoder.weights.need(Part.VISION)
    embed = model.embed_c

    def small(pixels: torch.Tensor) -> torch.Tensor:
        if len(pixels) > 2:
            raise torch.OutOfMemoryError
        return embed(pixels)

    monkeypatch.setattr(model, "embed_c", small)
    found = embed_images(encoder, single.paths).vectors
    np.testing.assert_allclose(found, unit(single.expected["image_embeds_C"]), atol=1e-5)
    assert "no room for so many pictures at once: going on with 2" in caplog.text


def test_a_model_too_large_for_all_devices_is_refused(single: Parity, monkeypatch: pytest.MonkeyPatch) -> None:
    from ivsearch.models import lazy_internvl, spread

    monkeypatch.setattr(spread, "available_devices", lambda: ["cpu", "mps"])
    monkeypatch.setattr(lazy_internvl, "free_memory", lambda devices: [spread.SPARE_BYTES + 1000] * len(devices))
    with pytest.raises(
        UsageError, match=r"the model needs 0.0 GiB and 4 GiB to work in on each device; free are 4.0, 4"
    ):
        load_encoder("internvl-c", weights=single.folder, device="cpu,mps")


def test_layers_go_to_devices_in_order_and_by_room(single: Parity, monkeypatch: pytest.MonkeyPatch) -> None:
    from ivsearch.models import lazy_internvl, spread

    monkeypatch.setattr(spread, "available_devices", lambda: ["cpu", "meta"])
    monkeypatch.setattr(lazy_internvl, "free_memory", lambda devices: [spread.SPARE_BYTES + 2_500_000] * 2)
    encoder = load_encoder("internvl-g", weights=single.folder, device="cpu,meta")
    assert isinstance(encoder, InternVLEncoder)
    weights: LazyInternVL = encoder.weights
    assert weights.spread.layered and len(weights.copies) == 1
    where = weights.spread.copies[0]
    order = [where(name).type for name in weights.copies[0].state_dict() if name.startswith("vision_model")]
    order += [where(name).type for name in weights.copies[0].state_dict() if name.startswith("qllama.model.layers")]
    assert order == sorted(order) and set(order) == {"cpu", "meta"}
    # What is added together lies together.
    ends = {
        where(name).type for name in ("qllama.model.norm.weight", "text_projection", "clip_projector2.norm1_q.bias")
    }
    assert ends == {"meta"}


def test_indexing_with_c_needs_room_for_pictures_only(single: Parity, monkeypatch: pytest.MonkeyPatch) -> None:
    from ivsearch.models import lazy_internvl, spread

    monkeypatch.setattr(spread, "available_devices", lambda: ["cpu", "mps"])
    monkeypatch.setattr(lazy_internvl, "free_memory", lambda devices: [spread.SPARE_BYTES + 2_000_000] * 2)
    encoder = load_encoder("internvl-c", weights=single.folder, device="cpu,mps")
    assert isinstance(encoder, InternVLEncoder)
    assert not encoder.weights.spread.layered and len(encoder.weights.copies) == 2


def test_a_device_named_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from ivsearch.models import spread

    monkeypatch.setattr(spread, "available_devices", lambda: ["cpu", "cuda", "cuda:0", "cuda:1"])
    assert spread.find_devices("cuda,cuda:0, cuda:1") == (torch.device("cuda:0"), torch.device("cuda:1"))
    assert spread.find_devices("auto") == (torch.device("cuda:0"), torch.device("cuda:1"))
