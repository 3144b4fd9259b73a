"""InternVL-14B and InternViT against what the official code computes, array by array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from ivsearch.encode.internvl_texts import Texts
from ivsearch.encode.pixels import WAYS, Resampling, prepare
from ivsearch.models.captioning import Decoding, caption
from ivsearch.models.checkpoint import open_checkpoint
from ivsearch.models.intern_vit import InternViT, resize_positions
from ivsearch.models.internvl_config import vision_config
from ivsearch.models.lazy_internvl import LazyInternVL, Numerics, Part
from ivsearch.models.qllama import Cache
from tests.parity import INTERNVL_14B, Parity


def padded(rows: list[list[int]], length: int) -> NDArray[np.int64]:
    return np.array([[*row, *[0] * (length - len(row))] for row in rows])


@pytest.mark.parametrize("name", INTERNVL_14B)
@torch.inference_mode()
def test_every_array_of_internvl_14b_is_the_official_one(shared: Path, name: str) -> None:
    parity = Parity(shared / "parity" / name)
    weights = LazyInternVL(open_checkpoint(parity.folder), "cpu", Numerics())
    model = weights.need(*Part)
    side = parity.notes["image_size"]
    assert weights.config.vision.image_size == side

    # pixels
    squares = {
        way: np.stack(
            [np.asarray(WAYS[way](Image.fromarray(each), side, Resampling.BICUBIC)) for each in parity.pictures]
        )
        for way in WAYS
    }
    for array, way in (("clip", "clip"), ("square", "retrieval"), ("tvcls", "classification")):
        parity.check(f"uint8_{array}_stride", squares[way][:, ::8, ::8])
        if f"uint8_{array}" in parity.expected:
            parity.check(f"uint8_{array}", squares[way])
    values = prepare(parity.pictures, "clip", side)
    parity.check("pixel_values_clip_stride", values[:, :, ::8, ::8])
    if "pixel_values_clip_photos" in parity.expected:
        parity.check("pixel_values_clip_photos", values[:3])

    # pictures
    pixels = torch.from_numpy(values)
    states: list[torch.Tensor] = []
    seen = model.vision_model(pixels, states)
    stacked = torch.stack(states)
    parity.check("vit_last_hidden_img0", seen[0])
    parity.check("vit_hidden_mean", stacked.mean((2, 3)))
    parity.check("vit_hidden_tok", stacked[:, :, [0, 1, -1], :8])
    looked = model.look(seen)
    parity.check("qllama_query_out", looked)
    parity.check("clip_projector_out", model.clip_projector(seen))
    parity.check("clip_projector2_out", model.clip_projector2(looked))
    pictures_c, pictures_g = model.embed_c(pixels), model.embed_g(pixels)
    parity.check("image_embeds_C", pictures_c)
    parity.check("image_embeds_G", pictures_g)

    # texts
    texts = Texts(parity.folder, weights.config.qllama)
    ids = padded([texts.encode(text) for text in parity.texts["texts"]], 80)
    parity.check("input_ids", ids)
    special = padded([texts.encode(text) for text in parity.texts["special_texts"]], 80)
    parity.check("special_input_ids", special)
    embedded = model.embed_text(torch.from_numpy(ids))
    parity.check("text_embeds", embedded)
    parity.check("special_text_embeds", model.embed_text(torch.from_numpy(special)))
    hidden = model.text_states(torch.from_numpy(ids))
    parity.check("text_hidden_row0", hidden[0])
    parity.check("text_hidden_row5", hidden[5])
    parity.check("logits_per_image_C", model.logits(pictures_c, embedded))
    parity.check("logits_per_image_G", model.logits(pictures_g, embedded))
    parity.expected["logit_scale"] = np.log(parity.expected["logit_scale"])  # the official code hands out its exp
    parity.notes["tolerances"]["logit_scale"] = {"atol": 1e-5}
    parity.check("logit_scale", model.logit_scale)

    # captions
    prompts = [texts.prompt(text) for text in parity.texts["caption_prompts"]]
    for index, prompt in enumerate(prompts):
        parity.check(f"prompt{index}_ids", prompt)
    first = model.begin(pixels[:2], torch.tensor(prompts[0]).expand(2, -1), Cache.empty())
    stride = 16 if name.endswith("realtok") else 1
    parity.check("caption_first_logits", first[:, ::stride])
    longest = parity.notes["generation"]["max_new_tokens"]
    greedy = caption(model, pixels, prompts[0], Decoding(1, 0, longest))
    parity.check("caption_greedy", padded(greedy, longest))
    assert [texts.pieces.decode(ids) for ids in greedy] == parity.texts["caption_greedy_text"]
    for index in (1, 2):
        found = caption(model, pixels[:1], prompts[index], Decoding(1, 0, longest))
        parity.check(f"caption_prompt{index}", padded(found, parity.expected[f"caption_prompt{index}"].shape[1]))
    beam = parity.notes["generation"]["beam"]
    decoding = Decoding(beam["num_beams"], beam["min_new_tokens"], beam["max_new_tokens"])
    parity.check("caption_beam5", padded(caption(model, pixels[:1], prompts[0], decoding), longest))

    parity.assert_all_checked()


@pytest.mark.parametrize("name", ["internvit_6b", "internvit_300m"])
@torch.inference_mode()
def test_every_array_of_internvit_is_the_official_one(shared: Path, name: str) -> None:
    parity = Parity(shared / "parity" / name)
    checkpoint = open_checkpoint(parity.folder)
    config = vision_config(checkpoint.config)
    with torch.device("meta"):
        model = InternViT(config)
    checkpoint.fill(model, device="cpu", dtype=torch.float32)

    def squashed(height: int, width: int) -> torch.Tensor:
        picture = np.asarray(Image.fromarray(parity.pictures[0]).resize((width, height), Resampling.BICUBIC))
        values = (picture.astype(np.float32) / 255 - np.float32((0.485, 0.456, 0.406))) / np.float32(
            (0.229, 0.224, 0.225)
        )
        return torch.from_numpy(values.transpose(2, 0, 1).astype(np.float32)[None])

    native = torch.from_numpy(prepare(parity.pictures, "clip", 224))
    height, width = (196, 280) if name == "internvit_6b" else (280, 168)
    for case, pixels, step in (
        ("native", native, 1),
        ("double", squashed(448, 448), 7),
        ("rect", squashed(height, width), 1),
    ):
        states: list[torch.Tensor] = []
        last = model(pixels, states)
        stacked = torch.stack(states)
        if case == "native":
            parity.check("native_embeddings_img0", states[0][0])
        parity.check(f"{case}_last_hidden_img0", last[0, ::step])
        parity.check(f"{case}_pooler", last[:, 0])
        parity.check(f"{case}_hidden_mean", stacked.mean(2)[..., :16])
        parity.check(f"{case}_hidden_tok", stacked[:, :, [0, 1, 7, -1], :16])
    if "force_pooler" in parity.expected:
        forced = resize_positions(model.embeddings.position_embedding, config.grid, 20, 20)
        parity.check("force_pos_embed", forced)
        parity.check("force_pooler", model(squashed(280, 280))[:, 0])
    parity.assert_all_checked()
