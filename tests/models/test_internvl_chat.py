"""What chat models see, against the arrays of the official code; their files, whole and damaged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

from ivsearch.errors import NotFinite, UsageError, WeightsError
from ivsearch.models.hico import add_up, average, compared_by, pair, schedule, sizes_of
from ivsearch.models.internvl_chat import pixel_shuffle
from ivsearch.models.loaded_chat import TASK_HEADS, LoadedChat, open_internvl_chat
from ivsearch.models.tiling import tiles, to_pixels
from tests.parity import Parity

CHATS = ("chat_internlm2", "chat_qwen2", "chat_llama")
IV25 = ("iv25_168", "iv25_448")


def chat_of(parity: Parity, name: str) -> dict[str, Any]:
    chats = json.loads((parity.folder / "chats.json").read_text())
    return next(each for each in chats if each["name"] == name)


def seen(parity: Parity, file: str, side: int, most: int = 1) -> NDArray[np.uint8]:
    image = Image.open(parity.folder / parity.notes["images_dir"] / file)
    return tiles(image, image_size=side, max_tiles=most, use_thumbnail=True)


def frames_of(parity: Parity, name: str) -> NDArray[np.uint8]:
    chat = chat_of(parity, name)
    return np.concatenate([seen(parity, file, chat["frame_size"]) for file in chat["frames"]])


@pytest.mark.parametrize("name", CHATS)
@torch.inference_mode()
def test_features_of_pictures_are_the_official_ones(shared: Path, name: str) -> None:
    parity = Parity(shared / "parity" / name)
    loaded = open_internvl_chat(parity.folder, device="cpu")
    ((file, most),) = chat_of(parity, "single_turn1")["images"]
    pixels = seen(parity, file, loaded.config.image_size, most)
    parity.check("feature_single", loaded.look(pixels).tensor)
    assert loaded.look(pixels).tensor.shape[1] == parity.notes["num_image_token"] == loaded.config.tokens_per_tile()
    patches = loaded.model.vision_model(to_pixels(torch.from_numpy(pixels[:1])))[:, 1:]
    shuffled = pixel_shuffle(patches, loaded.config.ps_version)
    parity.check("pixel_shuffle_tile0", shuffled[..., ::4])


@pytest.mark.parametrize("name", IV25)
@torch.inference_mode()
def test_features_of_frames_are_the_official_ones(shared: Path, name: str) -> None:
    parity = Parity(shared / "parity" / name)
    loaded = open_internvl_chat(parity.folder, device="cpu")
    four = frames_of(parity, "f4_turn1")
    cases = {"feat4": four, "feat8": frames_of(parity, "f8_turn1"), "feat16": frames_of(parity, "f16_turn1")}
    if "feat4_alt" in parity.expected:
        # Frames of another size: the position table is resized.
        cases["feat4_alt"] = frames_of(parity, "f4_alt")
        assert cases["feat4_alt"].shape[-1] != loaded.config.image_size
    for array, pixels in cases.items():
        parity.check(array, loaded.look(pixels).tensor)
    assert parity.checked == {array for array in parity.expected if array.startswith("feat")}

    heads = loaded.config.language.num_attention_heads
    patches = loaded.model.vision_model(to_pixels(torch.from_numpy(four)))[:, 1:]
    tokens = pixel_shuffle(patches, loaded.config.ps_version).flatten(0, 1)[None]
    parity.check("hico4_in", tokens[:, ::4, ::4])
    sums, owners = compared_by(tokens, heads), torch.arange(tokens.shape[1])[None]
    for stage, merged in enumerate(schedule(tokens.shape[1], 64)):
        paired, count = pair(sums, merged), sums.shape[1] - merged
        parity.check(f"hico4_s{stage}_node_idx", paired.partners)
        if paired.order is not None:
            np.testing.assert_array_equal(paired.order, parity.expected[f"hico4_s{stage}_order"])
        sums, owners = add_up(sums, paired.places, count), paired.places.gather(1, owners)
        parity.check(f"hico4_s{stage}_size", sizes_of(owners, count))
        x = average(tokens, owners, count)
        parity.check(f"hico4_s{stage}_x", x if count == 64 else x[:, ::4, ::4])
    of_merging = {array for array in parity.expected if array.startswith("hico4_") and not array.endswith("_order")}
    assert of_merging <= parity.checked


@pytest.fixture(scope="module")
def small(shared: Path) -> LoadedChat:
    return open_internvl_chat(shared / "parity" / "iv25_168", device="cpu")


@pytest.mark.parametrize("at_once", [1, 4, 6, 8, 100])
@torch.inference_mode()
def test_chunks_change_nothing_and_hold_whole_groups(small: LoadedChat, at_once: int) -> None:
    pixels = torch.randn(12, 3, 168, 168, generator=torch.Generator().manual_seed(1))
    held: list[int] = []
    hook = small.model.vision_model.register_forward_pre_hook(lambda _module, args: held.append(len(args[0])))
    found = small.model.picture_features(pixels, at_once)
    hook.remove()
    assert max(held) <= max(4, at_once) and not any(n % 4 for n in held)
    alone = [small.model.picture_features(pixels[start : start + 4]) for start in (0, 4, 8)]
    np.testing.assert_allclose(found, torch.cat(alone), atol=1e-5)


def test_nothing_to_look_at(small: LoadedChat) -> None:
    assert small.look(np.empty((0, 168, 168, 3), np.uint8)).tensor.shape == (0, 16, 96)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((6, 168, 168, 3), "groups of 4, and 6 came: take 4"),
        ((3, 168, 168, 3), "groups of 4, and 3 came: take 4"),
        ((17, 168, 168, 3), "groups of 4, and 17 came: take 16"),
        ((4, 168, 140, 3), "must be square"),
        ((4, 154, 154, 3), "multiples of 28"),
        ((4, 112, 112, 3), "too small for this model"),
    ],
)
def test_frames_it_cannot_look_at(small: LoadedChat, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        small.look(np.zeros(shape, np.uint8))


def test_no_finite_numbers(shared: Path) -> None:
    spoilt = open_internvl_chat(shared / "parity" / "iv25_168", device="cpu")
    spoilt.model.mlp1.bias[3] = float("nan")
    with pytest.raises(NotFinite, match="no finite numbers in float32: the weights may be damaged"):
        spoilt.look(np.zeros((4, 168, 168, 3), np.uint8))


# Memory of threads, of which there are as many as the machine has cores, would count as well.
ALONE = {**os.environ, "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
LITTLE_ROOM = """
import resource, sys
import numpy as np
from pathlib import Path
from ivsearch.errors import UsageError
from ivsearch.models.loaded_chat import open_internvl_chat
loaded = open_internvl_chat(Path(sys.argv[1]), device="cpu")
tiles = np.zeros((16, 448, 448, 3), np.uint8)
loaded.look(tiles[:4])
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (1 << 20), -1))
try:
    loaded.look(tiles)
except UsageError as error:
    print(loaded.at_once, error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_no_room_for_the_fewest_pictures(shared: Path) -> None:
    folder = shared / "parity" / "iv25_448"
    command = [sys.executable, "-c", LITTLE_ROOM, str(folder)]
    found = subprocess.run(command, capture_output=True, text=True, env=ALONE)
    assert found.stdout.startswith("4 no room on cpu for 4 pictures of 448 pixels a side"), found.stderr
    assert "going on with 4" in found.stderr


NO_ROOM = """
import resource, sys
from pathlib import Path
from ivsearch.errors import UsageError
from ivsearch.models.loaded_chat import open_internvl_chat
open_internvl_chat(Path(sys.argv[1]), device="cpu")
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
# The file is mapped twice, 155 MB; the 77 MB of its largest tensor in float32 have no room any more.
resource.setrlimit(resource.RLIMIT_AS, (taken + (190 << 20), -1))
try:
    open_internvl_chat(Path(sys.argv[2]), device="cpu")
except UsageError as error:
    print(error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_no_room_for_the_weights(shared: Path, tmp_path: Path) -> None:
    def many_words(tensors: dict[str, torch.Tensor]) -> None:
        for name in ("model.tok_embeddings", "output"):
            tensors[f"language_model.{name}.weight"] = torch.zeros(200_000, 96, dtype=torch.bfloat16)

    small = shared / "parity" / "iv25_168"
    large = rewritten(small, tmp_path / "large", many_words)
    config = json.loads((large / "config.json").read_text())
    config["llm_config"]["vocab_size"] = 200_000
    (large / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-c", NO_ROOM, str(small), str(large)]
    found = subprocess.run(command, capture_output=True, text=True, env=ALONE)
    assert "no room for the weights: 0.1 GiB in float32 on cpu. Take --dtype" in found.stdout, found.stderr


def test_half_precision_is_near(shared: Path) -> None:
    parity = Parity(shared / "parity" / "chat_internlm2")
    ((file, most),) = chat_of(parity, "single_turn1")["images"]
    pixels, wanted = seen(parity, file, 448, most), parity.expected["feature_single"]
    for dtype in ("bfloat16", "float16"):
        loaded = open_internvl_chat(parity.folder, device="cpu", dtype=dtype)
        found = loaded.look(pixels).tensor
        assert str(found.dtype) == f"torch.{dtype}"
        cosine = torch.nn.functional.cosine_similarity(found.float(), torch.from_numpy(wanted), dim=-1)
        assert cosine.min() > 0.99


def test_layers_that_are_never_looked_at_are_not_read(shared: Path) -> None:
    loaded = open_internvl_chat(shared / "parity" / "chat_llama", device="cpu")
    assert loaded.config.select_layer == -4
    assert len(loaded.model.vision_model.encoder.layers) == loaded.config.vision.num_hidden_layers - 3


def test_digest_tells_weights_and_numbers_apart(shared: Path) -> None:
    digests = [
        open_internvl_chat(shared / "parity" / name, device="cpu", dtype=dtype).digest
        for name in IV25
        for dtype in ("float32", "bfloat16")
    ]
    assert len(set(digests)) == 4
    again = open_internvl_chat(shared / "parity" / IV25[0], device="cpu")
    assert again.digest == digests[0]


# ---- files ----


def copy(folder: Path, to: Path) -> Path:
    to.mkdir()
    for path in folder.iterdir():
        shutil.copyfile(path, to / path.name)
    return to


def rewritten(folder: Path, to: Path, change: Any) -> Path:
    """One file of weights, ``change``d, and no index."""
    tensors: dict[str, torch.Tensor] = {}
    to = copy(folder, to)
    for path in sorted(to.glob("*.safetensors*")):
        if path.suffix == ".safetensors":
            tensors |= load_file(path)
        path.unlink()
    change(tensors)
    save_file(tensors, to / "model.safetensors", {"format": "pt"})
    return to


def test_task_heads_are_left_out_with_an_index_that_lists_them_and_without_one(shared: Path, tmp_path: Path) -> None:
    folder = shared / "parity" / "iv25_448"
    parity = Parity(folder)
    extras = set(parity.notes["weights"]["unindexed_extra_tensors"])
    assert {name.split(".")[0] for name in extras} == {*TASK_HEADS, "track_embed_decoder"}

    listed = copy(folder, tmp_path / "listed")
    index = json.loads((listed / "model.safetensors.index.json").read_text())
    index["weight_map"] |= dict.fromkeys(extras, "model-00002-of-00002.safetensors")
    (listed / "model.safetensors.index.json").write_text(json.dumps(index))
    one_file = rewritten(folder, tmp_path / "one", lambda tensors: None)

    pixels = frames_of(parity, "f4_turn1")
    loaded = [open_internvl_chat(each, device="cpu") for each in (folder, listed, one_file)]
    for each in loaded:
        np.testing.assert_allclose(each.look(pixels).tensor, parity.expected["feat4"], atol=2e-4, rtol=1e-4)
    assert len({each.digest for each in loaded}) == 1


def test_models_without_hico_have_no_task_heads(shared: Path, tmp_path: Path) -> None:
    def add(tensors: dict[str, torch.Tensor]) -> None:
        tensors["sam.weight"] = torch.zeros(1)

    with pytest.raises(WeightsError, match=r"unexpected sam\.weight"):
        open_internvl_chat(rewritten(shared / "parity" / "chat_internlm2", tmp_path / "a", add), device="cpu")


def missing_head(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["language_model.lm_head.weight"]


def missing_unused_layer(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["vision_model.encoder.layers.5.ls1"]


def misshaped(tensors: dict[str, torch.Tensor]) -> None:
    tensors["mlp1.1.weight"] = tensors["mlp1.1.weight"][:, :-1].contiguous()


def not_a_number(tensors: dict[str, torch.Tensor]) -> None:
    tensors["mlp1.3.bias"][0] = float("nan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (missing_head, r"does not hold the weights of a chat model.*missing language_model\.lm_head\.weight"),
        (missing_unused_layer, r"missing vision_model\.encoder\.layers\.5\.ls1"),
        (misshaped, r"misshaped mlp1\.1\.weight is \[64, 255\] and should be \[64, 256\]"),
        (not_a_number, r"tensor 'mlp1\.3\.bias' contains NaN or infinity"),
    ],
)
def test_damaged_weights(shared: Path, tmp_path: Path, change: Any, message: str) -> None:
    folder = rewritten(shared / "parity" / "chat_llama", tmp_path / "a", change)
    with pytest.raises(WeightsError, match=message):
        open_internvl_chat(folder, device="cpu")


def test_files_that_are_cut_short_or_gone(shared: Path, tmp_path: Path) -> None:
    folder = copy(shared / "parity" / "chat_qwen2", tmp_path / "a")
    shard = folder / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-7])
    with pytest.raises(WeightsError, match="cut short or damaged"):
        open_internvl_chat(folder, device="cpu")
    shard.unlink()
    with pytest.raises(WeightsError, match=shard.name):
        open_internvl_chat(folder, device="cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"select_layer": 0}, "select_layer 0 means the states before the first layer"),
        ({"llm_config": {"num_attention_heads": 12, "num_key_value_heads": 12}}, None),
        ({"llm_config": {"num_attention_heads": 16, "num_key_value_heads": 8}}, "HiCo compares tokens.* 16 do not"),
    ],
)
def test_configs_whose_parts_do_not_go_together(
    shared: Path, tmp_path: Path, changes: dict[str, Any], message: str | None
) -> None:
    folder = copy(shared / "parity" / "iv25_168", tmp_path / "a")
    config = json.loads((folder / "config.json").read_text())
    for key, value in changes.items():
        config[key] = config[key] | value if isinstance(value, dict) else value
    if message and "16" in message:
        config["vision_config"] |= {"hidden_size": 45, "num_attention_heads": 3}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=message or "misshaped"):
        open_internvl_chat(folder, device="cpu")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"device": "cuda:99"}, "there is no device 'cuda:99'"),
        ({"device": "cpu", "dtype": "int8"}, "a chat model cannot run in dtype 'int8'; known: float32"),
        ({"device": "cpu", "dtype": "fp8"}, "dtype 'fp8' runs on a CUDA device"),
        ({"device": "cpu", "attention": "eager"}, "there is no attention 'eager'"),
    ],
)
def test_what_cannot_be_asked_for(shared: Path, asked: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_internvl_chat(shared / "parity" / "chat_qwen2", **asked)
