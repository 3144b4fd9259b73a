"""InternVL on a GPU, in bfloat16 and FP8, against the official code's float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ivsearch.encode import embed_images, load_encoder
from ivsearch.encode.internvl import InternVLEncoder
from tests.parity import INTERNVL_14B, Parity, unit

pytestmark = pytest.mark.gpu
LEAST = {"float32": 1 - 1e-6, "bfloat16": 0.999}


@pytest.mark.parametrize("dtype", LEAST)
@pytest.mark.parametrize("name", INTERNVL_14B)
def test_embeddings_on_a_gpu_point_where_the_official_ones_do(
    shared: Path, cuda: torch.device, name: str, dtype: str
) -> None:
    parity = Parity(shared / "parity" / name)
    for encoder_name, array in (("internvl-c", "image_embeds_C"), ("internvl-g", "image_embeds_G")):
        encoder = load_encoder(encoder_name, weights=parity.folder, device="cuda", dtype=dtype, preprocess="clip")
        pictures = embed_images(encoder, parity.paths).vectors
        assert (pictures * unit(parity.expected[array])).sum(1).min() >= LEAST[dtype]
        texts = encoder.encode_texts(parity.texts["texts"]).vectors
        assert (texts * unit(parity.expected["text_embeds"])).sum(1).min() >= LEAST[dtype]


@pytest.mark.parametrize("name", ["internvit_6b", "internvit_300m"])
def test_internvit_on_a_gpu_points_where_the_official_one_does(shared: Path, cuda: torch.device, name: str) -> None:
    parity = Parity(shared / "parity" / name)
    encoder = load_encoder("internvit:x", weights=parity.folder, device="cuda", dtype="bfloat16", preprocess="clip")
    found = embed_images(encoder, parity.paths).vectors
    assert (found * unit(parity.expected["native_pooler"])).sum(1).min() >= 0.999


def test_fp8_is_close_to_bfloat16(shared: Path, cuda: torch.device) -> None:
    parity = Parity(shared / "parity" / "internvl14b_single")
    loaded = [
        load_encoder("internvl-g", weights=parity.folder, device="cuda", dtype=dtype) for dtype in ("bfloat16", "fp8")
    ]
    half, eighth = (embed_images(encoder, parity.paths).vectors for encoder in loaded)
    assert (half * eighth).sum(1).min() > 0.99
    assert loaded[0].space == loaded[1].space


def test_two_gpus_hold_a_copy_each_and_share_the_pictures(shared: Path, cuda: torch.device) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    parity = Parity(shared / "parity" / "internvl14b_single")
    encoder = load_encoder(
        "internvl-g", weights=parity.folder, device="cuda:0,cuda:1", dtype="float32", preprocess="clip"
    )
    assert isinstance(encoder, InternVLEncoder)
    assert [copy.query_tokens.device.type for copy in encoder.weights.copies] == ["meta", "meta"]
    found = embed_images(encoder, parity.paths).vectors
    np.testing.assert_allclose(found, unit(parity.expected["image_embeds_G"]), atol=1e-4)
    assert [str(copy.query_tokens.device) for copy in encoder.weights.copies] == ["cuda:0", "cuda:1"]


@pytest.mark.parametrize("dtype", LEAST)
@pytest.mark.parametrize("share", [0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9])
def test_layers_of_one_model_can_lie_on_two_gpus(
    shared: Path, cuda: torch.device, monkeypatch: pytest.MonkeyPatch, share: float, dtype: str
) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    from ivsearch.models import lazy_internvl, spread

    parity = Parity(shared / "parity" / "internvl14b_single")
    weights_bytes = 1_920_000 * (2 if dtype == "float32" else 1)
    rooms = [spread.SPARE_BYTES + round(part * weights_bytes) for part in (share, 1 - share)]
    monkeypatch.setattr(lazy_internvl, "free_memory", lambda devices: rooms)
    split = load_encoder("internvl-g", weights=parity.folder, device="auto", dtype=dtype, preprocess="clip")
    assert isinstance(split, InternVLEncoder)
    assert split.weights.spread.layered
    for encoder, array in ((split, "image_embeds_G"), (split.sibling("internvl-c"), "image_embeds_C")):
        assert encoder is not None
        found = embed_images(encoder, parity.paths).vectors
        assert (found * unit(parity.expected[array])).sum(1).min() >= LEAST[dtype]
    texts = split.encode_texts(parity.texts["texts"]).vectors
    assert (texts * unit(parity.expected["text_embeds"])).sum(1).min() >= LEAST[dtype]
    batch = split.preprocess(parity.pictures)
    assert np.isfinite(split.match(batch, parity.texts["texts"][:5])).all()
    devices = {str(parameter.device) for parameter in split.weights.copies[0].parameters()} - {"meta"}
    assert devices == {"cuda:0", "cuda:1"}
    if dtype == "float32":
        greedy = split.caption(batch, beams=1, min_new_tokens=0, max_new_tokens=20)
        assert [each.text for each in greedy] == parity.texts["caption_greedy_text"]
        (beam,) = split.caption(batch[:1], beams=5, min_new_tokens=8, max_new_tokens=20)
        assert list(beam.token_ids) == parity.expected["caption_beam5"][0].tolist()
