"""open_clip's models against open_clip's own encode_image and encode_text, on tiny random weights."""

from __future__ import annotations

import importlib.util
import json
import pickle
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import CLIPImageProcessorPil, PreTrainedTokenizerFast, SiglipImageProcessorPil

from ivsearch.encode import load_encoder
from ivsearch.encode.openclip import weight_file
from ivsearch.encode.openclip_import import import_open_clip
from ivsearch.errors import UsageError, WeightsError
from ivsearch.pictures import Transparency

for package in ("open_clip", "timm"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install --no-deps open-clip-torch timm", allow_module_level=True)

SIDE = 32
TEXTS = ["a cat on a sofa", "Two DOGS, running!", "一只猫", "a long text " * 60]
CONFIG: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> NoReturn:
        raise AssertionError("a test asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@contextmanager
def known_model(open_clip: ModuleType, path: Path, config: dict[str, Any]) -> Iterator[None]:
    """open_clip has the model ``path.stem`` in its table for a while."""
    path.write_text(json.dumps(config), "utf-8")
    open_clip.add_model_config(path)
    yield
    open_clip.factory._MODEL_CONFIG_PATHS.remove(path)
    open_clip.factory._MODEL_CONFIGS.pop(path.stem)


@pytest.fixture(scope="module")
def open_clip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """open_clip, which knows a model ``tiny-clip`` for as long as these tests run."""
    module = import_open_clip()
    with known_model(module, tmp_path_factory.mktemp("configs") / "tiny-clip.json", CONFIG):
        yield module


def scattered(network: torch.nn.Module) -> torch.nn.Module:
    """Weights so large that different inputs get clearly different vectors."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return network.eval()


@pytest.fixture(scope="module")
def network(open_clip: ModuleType) -> torch.nn.Module:
    return scattered(open_clip.create_model("tiny-clip"))


@pytest.fixture(scope="module")
def file(network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    torch.save(network.state_dict(), path)
    return path


def save_folder(folder: Path, network: torch.nn.Module, config: dict[str, Any], **preprocess: object) -> Path:
    """As open_clip saves models for the hub."""
    folder.mkdir()
    settings = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(settings), "utf-8")
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return folder


@pytest.fixture
def squashing(network: torch.nn.Module, tmp_path: Path) -> Path:
    half = [0.5, 0.5, 0.5]
    return save_folder(
        tmp_path / "squashing", network, CONFIG, mean=half, std=half, interpolation="bilinear", resize_mode="squash"
    )


def pictures() -> list[NDArray[np.uint8]]:
    """The sides differ by even numbers once resized: where the odd pixel goes is not CLIPImageProcessor's to say."""
    random = np.random.default_rng(8)
    small = [random.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in ((5, 7), (9, 4), (6, 6))]
    sizes = [(128, 64), (32, 64), (32, 32)]
    return [np.asarray(Image.fromarray(a).resize(size)) for a, size in zip(small, sizes, strict=True)]


def truth_of_pictures(network: Any, processor: Any) -> NDArray[np.float32]:
    pixels = processor([Image.fromarray(each) for each in pictures()], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        return network.encode_image(pixels, normalize=True).numpy()


def truth_of_texts(network: Any, tokenizer: Any) -> NDArray[np.float32]:
    with torch.no_grad():
        return network.encode_text(tokenizer(TEXTS), normalize=True).numpy()


def test_a_file_gives_the_vectors_open_clip_gives(open_clip: ModuleType, network: torch.nn.Module, file: Path) -> None:
    encoder = load_encoder(f"openclip:tiny-clip/{file}")
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    images, texts = truth_of_pictures(network, processor), truth_of_texts(network, open_clip.get_tokenizer("tiny-clip"))
    np.testing.assert_allclose(encoder.encode_images(encoder.preprocess(pictures())).vectors, images, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS).vectors, texts, atol=1e-5)
    assert min(np.abs(images[0] - images[1]).max(), np.abs(texts[0] - texts[1]).max()) > 0.01
    assert (encoder.space.encoder, encoder.space.dim) == ("openclip:tiny-clip/tiny.pt", 24)
    assert encoder.transparency is Transparency.DROPPED


def test_a_folder_says_itself_how_pictures_are_prepared(network: torch.nn.Module, squashing: Path) -> None:
    truth = truth_of_pictures(network, SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}, resample=2))
    by_variant = load_encoder(f"openclip:{squashing}")
    by_weights = load_encoder("openclip:mine", weights=squashing)
    for encoder in (by_variant, by_weights):
        np.testing.assert_allclose(encoder.encode_images(encoder.preprocess(pictures())).vectors, truth, atol=1e-5)
    assert (by_variant.space.encoder, by_weights.space.encoder) == ("openclip:squashing", "openclip:mine")
    assert by_variant.space.revision == by_weights.space.revision


def test_a_tag_says_how_its_weights_were_trained(
    open_clip: ModuleType, file: Path, squashing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights come from the hub's cache; QuickGELU, mean, resize mode from open_clip's table."""
    tag = {"hf_hub": "acme/tiny/", "quick_gelu": True, "mean": (0.5,) * 3, "std": (0.5,) * 3, "resize_mode": "squash"}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-clip", {"mine": tag | {"interpolation": "bilinear"}})
    with pytest.raises(WeightsError, match="acme/tiny is no folder here and not in the hub's cache"):
        load_encoder("openclip:tiny-clip/mine")
    cached = tmp_path / "hub" / "models--acme--tiny"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("a" * 40)
    (cached / "snapshots" / ("a" * 40)).mkdir(parents=True)
    shutil.copy(squashing / "open_clip_model.safetensors", cached / "snapshots" / ("a" * 40))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    quick = open_clip.create_model("tiny-clip", str(file), force_quick_gelu=True).eval()
    truth = truth_of_pictures(quick, SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}, resample=2))
    for encoder in (load_encoder("openclip:tiny-clip/mine"), load_encoder("openclip:tiny-clip/mine", weights=file)):
        np.testing.assert_allclose(encoder.encode_images(encoder.preprocess(pictures())).vectors, truth, atol=1e-5)
        assert encoder.space.encoder == "openclip:tiny-clip/mine"


def test_a_hugging_face_tokenizer_beside_the_weights_is_used(open_clip: ModuleType, tmp_path: Path) -> None:
    words = ["<pad>", "<unk>", *"a", "cat", "dogs", "long", "on", "running", "sofa", "text", "two"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    settings = {"hf_tokenizer_name": "acme/words", "vocab_size": len(words), "context_length": 16}
    config = CONFIG | {"text_cfg": CONFIG["text_cfg"] | settings, "custom_text": True}
    with known_model(open_clip, tmp_path / "words.json", config):
        network = scattered(open_clip.create_model("words"))
    folder = save_folder(tmp_path / "words", network, config)
    with pytest.raises(WeightsError, match=r"needs the tokenizer acme/words, which is neither in the hub's cache nor "):
        load_encoder(f"openclip:{folder}")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", padding_side="left"
    ).save_pretrained(folder)

    def ids(texts: list[str]) -> torch.Tensor:
        rows = [tokenizer.encode(" ".join(text.split())).ids[:16] for text in texts]
        return torch.tensor([row + [0] * (16 - len(row)) for row in rows])

    truth = truth_of_texts(network, ids)
    np.testing.assert_allclose(load_encoder(f"openclip:{folder}").encode_texts(TEXTS).vectors, truth, atol=1e-5)


def test_a_text_in_a_batch_is_that_text_alone(open_clip: ModuleType, file: Path) -> None:
    encoder = load_encoder(f"openclip:tiny-clip/{file}")
    together = encoder.encode_texts(TEXTS * 20).vectors
    alone = np.concatenate([encoder.encode_texts([text]).vectors for text in TEXTS])
    np.testing.assert_allclose(together, np.concatenate([alone] * 20), atol=1e-6)
    assert (
        encoder.encode_texts([]).vectors.shape == encoder.encode_images(encoder.preprocess([])).vectors.shape == (0, 24)
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_close(open_clip: ModuleType, file: Path, dtype: str) -> None:
    full, half = (load_encoder(f"openclip:tiny-clip/{file}", dtype=each) for each in ("float32", dtype))
    assert (half.encode_texts(TEXTS).vectors * full.encode_texts(TEXTS).vectors).sum(axis=1).min() > 0.99
    batch = full.preprocess(pictures())
    assert (half.encode_images(batch).vectors * full.encode_images(batch).vectors).sum(axis=1).min() > 0.99


def test_another_way_or_other_weights_are_another_space(
    open_clip: ModuleType, network: torch.nn.Module, file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.pt"
    torch.save(network.state_dict() | {"logit_scale": torch.tensor(0.5)}, other)
    encoders = [
        load_encoder(f"openclip:tiny-clip/{file}"),
        load_encoder(f"openclip:tiny-clip/{file}", preprocess="retrieval"),
        load_encoder("openclip:tiny-clip", weights=other),
    ]
    assert len({encoder.space.revision for encoder in encoders}) == 3
    same = load_encoder(f"openclip:tiny-clip/{file}", preprocess="classification")
    assert same.space == encoders[0].space


# ---- without torchvision ----


def run(code: str, *path: Path) -> str:
    root = Path(__file__).parents[2]
    environment = {"PYTHONPATH": ":".join(map(str, (*path, root))), "HF_HUB_OFFLINE": "1", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


IMPORT = """
import importlib.util, sys
from ivsearch.encode.openclip_import import import_open_clip
open_clip = import_open_clip()
print([name for name in sys.modules if name.split(".")[0] == "torchvision"])
"""


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed")
def test_importing_open_clip_leaves_no_torchvision_behind() -> None:
    code = (
        "from transformers import AutoImageProcessor, SiglipModel, CLIPModel\n"
        "from transformers.utils.import_utils import is_torchvision_available\n"
        "print(importlib.util.find_spec('torchvision'), is_torchvision_available())"
    )
    assert run(IMPORT + code) == "[]\nNone False"


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed")
def test_a_torchvision_made_for_another_torch_is_left_aside(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    raises = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / "torchvision" / "__init__.py").write_text(raises, "utf-8")
    assert run(IMPORT + "print(open_clip.create_model('RN50') is not None)", tmp_path) == "[]\nTrue"


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is installed")
def test_what_needs_torchvision_says_so(open_clip: ModuleType) -> None:
    with pytest.raises(ImportError, match="needs torchvision: install the one that fits your torch"):
        open_clip.transform.image_transform(SIDE, is_train=False)


def test_without_open_clip_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(
        WeightsError, match=r"encoder 'openclip' needs open_clip \(.*\): pip install 'ivsearch\[openclip\]'"
    ):
        load_encoder("openclip:ViT-B-32/openai")


# ---- what loading refuses ----


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit-b32/openai", r"open_clip has no model 'vit-b32'; did you mean .*ViT-B-32.*\? Write openclip:MODEL/TAG"),
        ("zzz", r"open_clip has no model 'zzz'; known: .* … Write openclip:MODEL/TAG, a folder with open_clip_config"),
        ("ViT-B-32/opeanai", r"open_clip's model 'ViT-B-32' has no pretrained 'opeanai', .* with one of openai, laion"),
        ("ViT-B-32", r"open_clip's model 'ViT-B-32' needs weights: write openclip:ViT-B-32/TAG with one of openai"),
        ("tiny-clip/x", r"'tiny-clip' has no pretrained 'x', .*: write openclip:tiny-clip with --weights FILE"),
    ],
)
def test_an_unknown_name_is_answered_with_known_ones(open_clip: ModuleType, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_encoder(f"openclip:{name}")


def test_a_tag_that_is_not_on_the_hub_says_where_it_is(open_clip: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    tags = {"old": {"url": "https://example.org/old.pt", "hf_hub": ""}}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-clip", tags)
    with pytest.raises(
        WeightsError, match=r"tiny-clip/old are not on the .* hub: download https://example\.org/old\.pt"
    ):
        load_encoder("openclip:tiny-clip/old")


class Intruder:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("code from a weights file ran",)


def damaged(folder: Path, network: torch.nn.Module) -> dict[str, Path]:
    weights = network.state_dict()
    paths = {name: folder / f"{name}.pt" for name in ("lacking", "misshaped", "cut", "code")}
    torch.save({name: value for name, value in weights.items() if name != "ln_final.bias"}, paths["lacking"])
    torch.save(weights | {"ln_final.bias": torch.zeros(3)}, paths["misshaped"])
    torch.save(weights, paths["cut"])
    paths["cut"].write_bytes(paths["cut"].read_bytes()[:5000])
    paths["code"].write_bytes(pickle.dumps(Intruder(), protocol=2))
    paths["cut-safetensors"] = folder / "cut.safetensors"
    paths["cut-safetensors"].write_bytes(b"\x10\0\0\0")
    return paths


@pytest.mark.parametrize("kind", ["lacking", "misshaped", "cut", "code", "cut-safetensors"])
def test_a_damaged_file_is_named(
    open_clip: ModuleType, network: torch.nn.Module, tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    path = damaged(tmp_path, network)[kind]
    with pytest.raises(
        WeightsError, match=rf"{path.name} cannot be loaded as open_clip's model 'tiny-clip' \(.*\): name"
    ):
        load_encoder("openclip:tiny-clip", weights=path)
    assert "code from a weights file ran" not in capfd.readouterr().out


def test_folders_that_lack_something_are_named(open_clip: ModuleType, squashing: Path, file: Path) -> None:
    with pytest.raises(WeightsError, match=r"has no open_clip_config\.json: name the model too, openclip:MODEL"):
        load_encoder(f"openclip:{file.parent}")
    (squashing / "open_clip_model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"squashing has no weights of open_clip \(open_clip_model\.safetensors"):
        load_encoder(f"openclip:{squashing}")


def test_a_way_that_pads_is_refused(open_clip: ModuleType, network: torch.nn.Module, tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "padding", network, CONFIG, resize_mode="longest")
    with pytest.raises(
        UsageError, match=r"own way to prepare pictures \('longest'\) is not supported: give --preprocess"
    ):
        load_encoder(f"openclip:{folder}")
    assert load_encoder(f"openclip:{folder}", preprocess="clip").preprocess(pictures()).shape == (3, 3, SIDE, SIDE)


def test_pictures_that_are_not_square_are_refused(open_clip: ModuleType, tmp_path: Path) -> None:
    config = CONFIG | {"vision_cfg": CONFIG["vision_cfg"] | {"image_size": [32, 48]}}
    with known_model(open_clip, tmp_path / "oblong.json", config):
        folder = save_folder(tmp_path / "oblong", open_clip.create_model("oblong"), config)
    with pytest.raises(
        WeightsError, match="the model takes pictures of 48 × 32 pixels: only square ones are supported"
    ):
        load_encoder(f"openclip:{folder}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"dtype": "fp8"},
            r"encoder 'openclip:tiny-clip' cannot run in dtype 'fp8'; known: float32, bfloat16, float16",
        ),
        ({"device": "cuda:9"}, r"encoder 'openclip:tiny-clip' cannot run on device 'cuda:9': available here: cpu"),
        ({"preprocess": "stretch"}, r"there is no way 'stretch' to prepare pictures; known: retrieval"),
    ],
)
def test_what_it_cannot_do_is_refused(open_clip: ModuleType, file: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_encoder("openclip:tiny-clip", weights=file, **options)


def test_an_empty_text_is_refused(open_clip: ModuleType, file: Path) -> None:
    with pytest.raises(UsageError, match="an empty text cannot be searched for: say what to look for"):
        load_encoder("openclip:tiny-clip", weights=file).encode_texts([""])


def test_a_text_that_is_no_unicode_is_refused(open_clip: ModuleType, file: Path) -> None:
    with pytest.raises(UsageError, match="the text is not valid Unicode: check the encoding of the terminal"):
        load_encoder("openclip:tiny-clip", weights=file).encode_texts(["a \ud83d"])


def test_of_several_weight_files_open_clips_choice_is_taken(open_clip: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "other.safetensors").touch()
    names = ("model.pth", "pytorch_model.pth", "pytorch_model.bin", "model.safetensors", "open_clip_pytorch_model.pth")
    for name in (*names, "open_clip_pytorch_model.bin", "open_clip_model.safetensors"):
        (tmp_path / name).touch()
        assert str(weight_file(tmp_path)) == open_clip.factory._find_checkpoint_in_dir(tmp_path)
