"""Chat models on a GPU: kernels against plain torch in float32, and the official code's ids and logits."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from ivsearch.models.chat_config import LanguageConfig
from ivsearch.models.decoding import Steps
from ivsearch.models.features import Features
from ivsearch.models.language_model import LanguageModel
from ivsearch.models.loaded_chat import LoadedChat, open_internvl_chat
from ivsearch.models.replier import Replier
from ivsearch.models.tiling import tiles
from tests.parity import Parity

pytestmark = pytest.mark.gpu
NAMES = ("chat_internlm2", "chat_qwen2", "chat_llama", "iv25_168", "iv25_448")
# family, heads, key heads, size of a head: packed and not, groups of 1, 2, 4, 7 and 8, the sizes of 1B to 78B models.
SHAPES = [
    ("internlm2", 32, 8, 128), ("internlm2", 16, 8, 128), ("qwen2", 14, 2, 64), ("qwen2", 64, 8, 128),
    ("llama", 4, 4, 16), ("llama", 56, 8, 128),
]  # fmt: skip


def drawn(family: str, heads: int, key_heads: int, size: int, cuda: torch.device) -> LanguageModel:
    config = LanguageConfig(family, heads * size, heads, key_heads, 512, 3, 1000, 1e-5, 1e6, 32768, None, 2)
    with torch.device("meta"):
        model = LanguageModel(config).eval().requires_grad_(False)
    model = model.to_empty(device=cuda).bfloat16()
    generator = torch.Generator(cuda).manual_seed(3)
    for parameter in model.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator, device=cuda) * parameter.shape[-1] ** -0.5)
        if parameter.dim() == 1:
            parameter.add_(1)
    model.join()
    return model


def run(model: LanguageModel, ids: torch.Tensor, padding: list[int]) -> torch.Tensor:
    """Logits after a prompt and after each of six steps, of which all but the first are recorded."""
    cache = model.cache(len(ids), 512)
    cache.pad(padding)
    steps = Steps(model, cache)
    found = [model.logits(model(model.embed(ids), cache)[:, -1])]
    return torch.stack([*found, *(steps(ids[:, step]).clone() for step in range(6))])


@pytest.mark.parametrize("padding", [[0, 0, 0], [0, 5, 70]])
@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_kernels_compute_what_plain_torch_does(
    cuda: torch.device, shape: tuple[str, int, int, int], padding: list[int]
) -> None:
    model = drawn(*shape, cuda)
    ids = torch.randint(0, 1000, (3, 177), device=cuda, generator=torch.Generator(cuda).manual_seed(1))
    found = run(model, ids, padding)
    wanted = run(copy.deepcopy(model).float(), ids, padding)
    error = (found - wanted).norm(dim=-1) / wanted.norm(dim=-1)
    assert error.max() < 0.03, error.max(-1).values
    # A wrong slot or angle would be far off; rounding to bfloat16 is the same size at every step.
    assert error.max() < 5 * error.min()


@torch.inference_mode()
def test_a_recorded_step_is_the_step(cuda: torch.device) -> None:
    model = drawn(*SHAPES[0], cuda)
    ids = torch.randint(0, 1000, (1, 300), device=cuda, generator=torch.Generator(cuda).manual_seed(1))
    cache, plain = model.cache(1, 512), model.cache(1, 512)
    steps = Steps(model, cache)
    for kept in (cache, plain):
        model(model.embed(ids[:, :200]), kept)
    for step in range(200, 300):
        wanted = model.logits(model(model.embed(ids[:, step : step + 1]), plain)[:, -1])
        torch.testing.assert_close(steps(ids[:, step]), wanted, rtol=0, atol=0)
        assert cache.length == plain.length == step + 1


@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[2]])
def test_replies_with_recorded_steps_are_those_without(
    cuda: torch.device, shape: tuple[str, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conversations, replies broken off, growing room and batches: greedy ids, step by step, in the same numbers."""
    model = drawn(*shape, cuda)

    def replier() -> Replier:
        return Replier(model, context_id=999, stop_ids=frozenset({-1}), pad_id=0)

    def talk(asked: Replier) -> list[list[int]]:
        first, long = list(range(100, 300)), [3 + i % 900 for i in range(4200)]
        found = [list(asked.stream(first, None, max_new_tokens=30))]
        second = [*first, *found[0], 7, 8, 9]
        broken = asked.stream(second, None, max_new_tokens=30)
        found.append([next(broken) for _ in range(10)])
        broken.close()
        found.append(list(asked.stream(second, None, max_new_tokens=30)))
        found.append(list(asked.stream(long, None, max_new_tokens=30)))
        found.append(list(asked.stream([*long[:4150], 5, 6], None, max_new_tokens=30)))
        return found + asked.batch([first, second, first[:50]], [None] * 3, max_new_tokens=30)

    recorded = talk(replier())
    monkeypatch.setattr(Steps, "_can_record", lambda self: False)
    assert talk(replier()) == recorded


@torch.inference_mode()
def test_a_padded_batch_of_long_prompts_needs_no_room_for_all_scores(cuda: torch.device) -> None:
    model = drawn(*SHAPES[0], cuda)
    asked = Replier(model, context_id=999, stop_ids=frozenset({-1}), pad_id=0)
    asked.batch([[5] * 20, [5] * 30], [None] * 2, max_new_tokens=2)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    rows, length = 4, 4000
    asked.batch([[5 + i % 900 for i in range(length - row)] for row in range(rows)], [None] * rows, max_new_tokens=2)
    # Scores of all heads in float32 would be 8.2 GB.
    assert torch.cuda.max_memory_allocated() - before < 3e9


class Asked:
    """One fixture on a device."""

    def __init__(self, folder: Path, dtype: str, device: str = "cuda") -> None:
        self.parity = Parity(folder)
        self.loaded: LoadedChat = open_internvl_chat(folder, device=device, dtype=dtype)
        self.chats: list[dict[str, Any]] = json.loads((folder / "chats.json").read_text())
        added = json.loads((folder / "added_tokens.json").read_text())
        stop = int(self.parity.notes["generation"]["eos_token_id"])
        self.replier = Replier(
            self.loaded.model.language_model,
            context_id=added["<IMG_CONTEXT>"],
            stop_ids=frozenset({stop}),
            pad_id=stop,
        )

    def ids(self, chat: str, what: str) -> list[int]:
        found: list[int] = self.parity.expected[f"{chat}__{what}"][0].tolist()
        return found

    def reply(self, chat: dict[str, Any]) -> list[int]:
        ids = self.ids(chat["name"], "input_ids")
        return list(self.replier.stream(ids, self.features(chat), max_new_tokens=20))

    def features(self, chat: dict[str, Any]) -> Features | None:
        """A second turn is about what the first was asked about."""
        name = chat["name"].replace("turn2", "turn1")
        shown = next(each for each in self.chats if each["name"] == name)
        listed = shown.get("frames") or shown.get("images") or []
        if not listed:
            return None
        files = [each if isinstance(each, list) else [each, 1] for each in listed]
        side = shown.get("frame_size", self.loaded.config.image_size)
        folder = self.parity.folder / self.parity.notes["images_dir"]
        cut = [
            tiles(Image.open(folder / file), image_size=side, max_tiles=most, use_thumbnail=True)
            for file, most in files
        ]
        return self.loaded.look(np.concatenate(cut))


@pytest.mark.parametrize("name", NAMES)
def test_replies_in_float32_are_the_official_ones(shared: Path, cuda: torch.device, name: str) -> None:
    asked = Asked(shared / "parity" / name, "float32")
    chats = [chat for chat in asked.chats if chat.get("method") != "batch_chat"]
    assert len(chats) >= 8
    for chat in chats:
        found = list(
            asked.replier.stream(asked.ids(chat["name"], "input_ids"), asked.features(chat), max_new_tokens=20)
        )
        assert found == asked.ids(chat["name"], "output_ids"), chat["name"]


# HiCo's choices among frames that are nearly alike change with the last digit: what was merged differs, not by much.
LEAST = {("bfloat16", False): 0.99, ("fp8", False): 0.9, ("bfloat16", True): 0.9, ("fp8", True): 0.8}


@pytest.mark.parametrize("dtype", ["bfloat16", "fp8"])
@pytest.mark.parametrize("name", NAMES)
def test_first_logits_in_half_precision_point_where_the_official_ones_do(
    shared: Path, cuda: torch.device, name: str, dtype: str
) -> None:
    asked = Asked(shared / "parity" / name, dtype)
    least = LEAST[dtype, asked.loaded.config.hico is not None]
    for chat in asked.chats:
        if chat.get("method") == "batch_chat":
            continue
        found = asked.replier.first_logits([asked.ids(chat["name"], "input_ids")], [asked.features(chat)])
        wanted = asked.parity.expected[f"{chat['name']}__first_logits"]
        cosine = F.cosine_similarity(torch.from_numpy(found), torch.from_numpy(wanted), dim=-1)
        assert cosine.min() >= least, (chat["name"], float(cosine.min()))


@pytest.mark.parametrize("name", ["chat_qwen2", "iv25_168"])
def test_a_model_spread_over_two_gpus_says_the_same(shared: Path, cuda: torch.device, name: str) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    folder = shared / "parity" / name
    asked = Asked(folder, "float32")
    model = asked.loaded.model
    # These fixtures fit on one: their layers are moved by hand.
    for index, layer in enumerate(model.language_model.model.layers):
        layer.to(f"cuda:{index % 2}")
    model.language_model.model.norm.to("cuda:1")
    model.language_model.head.to("cuda:1")
    for chat in asked.chats[:5]:
        found = list(
            asked.replier.stream(asked.ids(chat["name"], "input_ids"), asked.features(chat), max_new_tokens=20)
        )
        assert found == asked.ids(chat["name"], "output_ids"), chat["name"]
