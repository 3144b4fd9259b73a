"""Checkpoints against what safetensors and torch themselves read, and against files broken in every way seen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ivsearch.errors import WeightsError
from ivsearch.models.checkpoint import open_checkpoint

LFS_POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123\n"


class Small(nn.Module):
    """Every kind of slot: parameters, nested ones, a persistent buffer of whole numbers, one that is not persistent."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(300, 200)
        self.scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("steps", torch.zeros(3, dtype=torch.int64))
        self.register_buffer("cosines", torch.zeros(4), persistent=False)


def small_tensors() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        "inner.weight": torch.randn(200, 300).bfloat16(),
        "inner.bias": torch.randn(200).half(),
        "scale": torch.tensor(1.5),
        "steps": torch.tensor([1, 2, 2**40]),
    }


SMALL_SHAPES = {"inner.weight": (200, 300), "inner.bias": (200,), "scale": (), "steps": (3,)}
SHARDS = (("inner.weight", "scale"), ("inner.bias", "steps"))


def write_single(folder: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors")


def write_shards(folder: Path, tensors: dict[str, Tensor]) -> None:
    for number, names in enumerate(SHARDS, 1):
        save_file({name: tensors[name] for name in names}, folder / f"model-0000{number}-of-00002.safetensors")
    write_index(folder / "model.safetensors.index.json", "model-0000{}-of-00002.safetensors")


def write_bin(folder: Path, tensors: dict[str, Tensor]) -> None:
    torch.save(tensors, folder / "pytorch_model.bin")


def write_old_bin(folder: Path, tensors: dict[str, Tensor]) -> None:
    torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def write_bin_shards(folder: Path, tensors: dict[str, Tensor]) -> None:
    for number, names in enumerate(SHARDS, 1):
        torch.save({name: tensors[name] for name in names}, folder / f"pytorch_model-0000{number}-of-00002.bin")
    write_index(folder / "pytorch_model.bin.index.json", "pytorch_model-0000{}-of-00002.bin")


def write_index(path: Path, pattern: str) -> None:
    weight_map = {name: pattern.format(number) for number, names in enumerate(SHARDS, 1) for name in names}
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


Write = Callable[[Path, dict[str, Tensor]], None]
LAYOUTS = [write_single, write_shards, write_bin, write_old_bin, write_bin_shards]


def written(folder: Path, write: Write) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "small", "unknown": null}')
    write(folder, small_tensors())
    return folder


@pytest.mark.parametrize("write", LAYOUTS)
def test_every_layout_gives_back_what_was_written(write: Write, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(written(tmp_path, write))
    assert checkpoint.config == {"model_type": "small", "unknown": None}
    checkpoint.expect(SMALL_SHAPES, "Small")
    for name, tensor in small_tensors().items():
        entry = checkpoint.entries[name]
        assert (entry.shape, entry.dtype) == (tuple(tensor.shape), tensor.dtype)
        assert entry.file in checkpoint.files
        torch.testing.assert_close(checkpoint.read(name), tensor, rtol=0, atol=0)


@pytest.mark.parametrize("write", LAYOUTS)
@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_fill_puts_every_tensor_in_its_place(write: Write, dtype: torch.dtype | None, tmp_path: Path) -> None:
    with torch.device("meta"):
        module = Small()
    folder = written(tmp_path / "gone", write)
    open_checkpoint(folder).fill(module, device="cpu", dtype=dtype)
    shutil.rmtree(folder)
    filled = module.state_dict()
    for name, tensor in small_tensors().items():
        wanted = tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor
        torch.testing.assert_close(filled[name], wanted, rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert isinstance(module.inner.weight, nn.Parameter)
    assert module.cosines.is_meta


def test_nothing_stays_mapped_after_fill(tmp_path: Path) -> None:
    if not Path("/proc/self/maps").exists():
        pytest.skip("the system does not tell what is mapped")
    for write in (write_single, write_bin):
        folder = written(tmp_path / write.__name__, write)
        with torch.device("meta"):
            module = Small()
        open_checkpoint(folder).fill(module, device="cpu", dtype=None)
        assert str(folder) not in Path("/proc/self/maps").read_text()


def test_fill_takes_a_part_by_its_prefix_and_places_by_name(tmp_path: Path) -> None:
    asked = []

    def place(name: str) -> torch.device:
        asked.append(name)
        return torch.device("cpu")

    with torch.device("meta"):
        inner = nn.Linear(300, 200)
    open_checkpoint(written(tmp_path, write_single)).fill(inner, "inner.", device=place, dtype=torch.float64)
    assert sorted(asked) == ["bias", "weight"]
    torch.testing.assert_close(inner.weight.data, small_tensors()["inner.weight"].double(), rtol=0, atol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("write", LAYOUTS)
def test_fill_on_a_gpu_is_fill_on_the_cpu(cuda: torch.device, write: Write, tmp_path: Path) -> None:
    filled = {}
    for device in ("cpu", "cuda"):
        with torch.device("meta"):
            module = Small()
        open_checkpoint(written(tmp_path, write)).fill(module, device=device, dtype=torch.float16)
        filled[device] = module.state_dict()
    for name, tensor in filled["cpu"].items():
        assert filled["cuda"][name].is_cuda
        torch.testing.assert_close(filled["cuda"][name].cpu(), tensor, rtol=0, atol=0)


def test_the_fixtures_read_as_safetensors_and_torch_read_them(shared: Path) -> None:
    for name in ("internvl14b_sharded", "internvl14b_bin", "internvit_300m", "chat_internlm2"):
        checkpoint = open_checkpoint(shared / "parity" / name)
        for file in checkpoint.files:
            truth = load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
            assert {each for each, entry in checkpoint.entries.items() if entry.file == file} == set(truth)
            for each, tensor in truth.items():
                torch.testing.assert_close(checkpoint.read(each), tensor, rtol=0, atol=0)


def test_tensors_the_index_does_not_list_are_ignored(shared: Path) -> None:
    folder = shared / "parity" / "iv25_448"
    listed = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    checkpoint = open_checkpoint(folder)
    assert set(checkpoint.entries) == set(listed)
    held = {name for file in checkpoint.files for name in load_file(file)}
    assert held - set(listed)


def test_a_single_file_needs_no_index_and_comes_first(tmp_path: Path) -> None:
    written(tmp_path, write_bin_shards)
    written(tmp_path, write_bin)
    assert [file.name for file in open_checkpoint(tmp_path).files] == ["pytorch_model.bin"]
    written(tmp_path, write_shards)
    assert {file.suffix for file in open_checkpoint(tmp_path).files} == {".safetensors"}


def test_the_digest_is_of_the_tensors_not_of_the_files(tmp_path: Path) -> None:
    digests = {open_checkpoint(written(tmp_path / str(i), write)).digest() for i, write in enumerate(LAYOUTS)}
    assert len(digests) == 1
    assert len(digests.pop()) == 64


@pytest.mark.parametrize("change", ["value", "last value", "name", "shape", "dtype"])
def test_the_digest_notices(change: str, tmp_path: Path) -> None:
    tensors = small_tensors()
    if change == "value":
        tensors["scale"] += 1
    elif change == "last value":
        tensors["inner.weight"][-1, -1] += 1
    elif change == "name":
        tensors["extra"] = tensors.pop("scale")
    elif change == "shape":
        tensors["steps"] = tensors["steps"].reshape(1, 3)
    else:
        tensors["inner.bias"] = tensors["inner.bias"].view(torch.bfloat16)
    before = open_checkpoint(written(tmp_path, write_single)).digest()
    save_file(tensors, tmp_path / "model.safetensors")
    assert open_checkpoint(tmp_path).digest() != before


def test_expect_names_what_does_not_fit(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(written(tmp_path, write_single))
    with pytest.raises(WeightsError, match=r"weights of a Large: missing a1, a2, a3 and 2 more"):
        checkpoint.expect(SMALL_SHAPES | {f"a{i}": (1,) for i in range(1, 6)}, "a Large")
    with pytest.raises(WeightsError, match=r"misshaped inner\.bias is \[200\] and should be \[7\]"):
        checkpoint.expect(SMALL_SHAPES | {"inner.bias": (7,)}, "a Large")
    with pytest.raises(WeightsError, match=r"a Large: unexpected steps\. Name the folder"):
        checkpoint.expect({name: shape for name, shape in SMALL_SHAPES.items() if name != "steps"}, "a Large")


def test_fill_refuses_what_does_not_fit(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(written(tmp_path, write_single))
    with pytest.raises(WeightsError, match=r"does not fit Linear: missing outer\.weight, outer\.bias"):
        checkpoint.fill(nn.Linear(3, 2), "outer.", device="cpu", dtype=None)
    with pytest.raises(WeightsError, match=r"inner\.weight is \[200, 300\] and should be \[200, 3\]"):
        checkpoint.fill(nn.Linear(3, 200), "inner.", device="cpu", dtype=None)
    with pytest.raises(WeightsError, match="holds no tensor 'outer': name the folder"):
        checkpoint.read("outer")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_fill_refuses_what_is_not_finite(bad: float, tmp_path: Path) -> None:
    tensors = small_tensors()
    tensors["inner.weight"][100, 100] = bad
    written(tmp_path, write_single)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"tensor 'inner\.weight' contains NaN or infinity: the file is damaged"):
        open_checkpoint(tmp_path).fill(Small(), device="cpu", dtype=torch.float32)


def test_fill_tells_too_small_a_dtype_from_a_damaged_file(tmp_path: Path) -> None:
    tensors = small_tensors() | {"scale": torch.tensor(1e6)}
    written(tmp_path, write_single)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"values too large for torch\.float16: load it as float32 or bfloat16"):
        open_checkpoint(tmp_path).fill(Small(), device="cpu", dtype=torch.float16)


SHARD = "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"
BIN_SHARD = "pytorch_model-00002-of-00002.bin"


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 10)


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("blobs/gone")


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def map_to(value: object) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        index = json.loads(path.read_text())
        index["weight_map"]["scale"] = value
        path.write_text(json.dumps(index))

    return rewrite


BROKEN: list[tuple[str, Callable[[Path], object], str]] = [
    (SHARD, Path.unlink, rf"{SHARD} is missing \({INDEX} names it\): download it again"),
    (SHARD, link_to_nothing, rf"{SHARD} is a link to a file that is gone"),
    (SHARD, as_folder, rf"{SHARD} is not a file"),
    (SHARD, cut, rf"{SHARD} is cut short or damaged .*\d+ bytes\): download it again"),
    (SHARD, lambda path: path.write_bytes(b""), rf"{SHARD} is empty"),
    (SHARD, lambda path: path.write_bytes(b"<html>not found</html>"), rf"{SHARD} is cut short or damaged"),
    (SHARD, lambda path: path.write_text(LFS_POINTER), rf"{SHARD} is only a Git-LFS pointer.*git lfs pull"),
    (
        SHARD,
        lambda path: save_file({"other": torch.ones(2)}, path),
        rf"{SHARD} lacks inner\.bias, steps, which {INDEX}",
    ),
    (INDEX, lambda path: path.write_text("{"), rf"{INDEX} cannot be read as JSON"),
    (INDEX, lambda path: path.write_text("[]"), rf"{INDEX} should hold a JSON object, not list"),
    (INDEX, lambda path: path.write_text("{}"), rf"{INDEX} has no 'weight_map'"),
    (INDEX, Path.unlink, r"holds model-00001-of-00002\.safetensors but not one of model\.safetensors"),
    (INDEX, map_to("../secret.safetensors"), r"'scale' is said to be in '\.\./secret\.safetensors'"),
    (INDEX, map_to("/etc/passwd"), r"'scale' is said to be in '/etc/passwd'"),
    (INDEX, map_to(3), r"'scale' is said to be in 3, which is no file of this folder"),
    ("config.json", Path.unlink, r"config\.json is missing: download it again"),
    ("config.json", lambda path: path.write_bytes(b'{"a": "\xff"}'), r"config\.json cannot be read as JSON"),
    ("config.json", lambda path: path.write_text(LFS_POINTER), r"config\.json is only a Git-LFS pointer"),
]


@pytest.mark.parametrize(("name", "spoil", "message"), BROKEN)
def test_broken_safetensors_are_named(name: str, spoil: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    spoil(written(tmp_path, write_shards) / name)
    with pytest.raises(WeightsError, match=message):
        open_checkpoint(tmp_path)


class Trap:
    """Runs code when unpickled."""

    def __init__(self, sprung: Path) -> None:
        self._sprung = sprung

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self._sprung),)


BROKEN_BINS: list[tuple[Callable[[Path], object], str]] = [
    (Path.unlink, rf"{BIN_SHARD} is missing \(pytorch_model\.bin\.index\.json names it\)"),
    (cut, rf"{BIN_SHARD} is cut short or damaged"),
    (lambda path: path.write_bytes(b""), rf"{BIN_SHARD} is empty"),
    (lambda path: path.write_bytes(b"junk" * 99), rf"{BIN_SHARD} is cut short or damaged \(KeyError"),
    (lambda path: path.write_text(LFS_POINTER), rf"{BIN_SHARD} is only a Git-LFS pointer"),
    (lambda path: torch.save(torch.ones(2), path), rf"{BIN_SHARD} should hold tensors by name, not one Tensor"),
    (lambda path: torch.save({"epoch": 3}, path), r"'epoch' is a int: .*not with a training state"),
    (lambda path: torch.save({"scale": torch.ones(2)}, path), rf"{BIN_SHARD} lacks inner\.bias, steps"),
]


@pytest.mark.parametrize(("spoil", "message"), BROKEN_BINS)
def test_broken_bins_are_named(spoil: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    spoil(written(tmp_path, write_bin_shards) / BIN_SHARD)
    with pytest.raises(WeightsError, match=message):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_bin_is_not_run(zipped: bool, tmp_path: Path) -> None:
    written(tmp_path, write_bin)
    sprung = tmp_path / "sprung"
    torch.save({"scale": Trap(sprung)}, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match="holds Python objects that could run code") as refused:
        open_checkpoint(tmp_path)
    assert "weights_only" not in str(refused.value)
    assert not sprung.exists()


def test_a_folder_without_weights_is_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"holds no weights: one of model\.safetensors, .* must be there"):
        open_checkpoint(tmp_path)
    with pytest.raises(WeightsError, match="no such folder; name the folder that holds"):
        open_checkpoint(tmp_path / "nowhere")


def test_a_dtype_nobody_computes_in_is_named(tmp_path: Path) -> None:
    written(tmp_path, write_single)
    header = json.dumps({"odd": {"dtype": "U16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(WeightsError, match="tensor 'odd' is stored as U16, which ivsearch does not read"):
        open_checkpoint(tmp_path)


def test_a_folder_one_may_not_read_is_told(tmp_path: Path) -> None:
    folder = written(tmp_path / "mine", write_single)
    folder.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(WeightsError, match=r"mine cannot be read \(Permission denied\): check its permissions"):
            open_checkpoint(folder)
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)


FILL_AND_MEASURE = """
import resource, sys
from pathlib import Path
import torch
from torch import nn
from ivsearch.models.checkpoint import open_checkpoint

checkpoint = open_checkpoint(Path(sys.argv[1]))
with torch.device("meta"):
    module = nn.ModuleDict({str(i): nn.Linear(2048, 2048, bias=False) for i in range(24)})
torch.ones(4).bfloat16().aminmax()
before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
checkpoint.fill(module, device="cpu", dtype=torch.bfloat16)
assert len({tensor.data_ptr() for tensor in module.state_dict().values()}) == 24
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) * 1024)
"""


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_filling_takes_the_memory_of_the_model_and_little_more(suffix: str, tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("ru_maxrss is in kilobytes on Linux only")
    layer_bytes, shard_layers, layers = 2048 * 2048 * 2, 6, 24
    stem = "model.safetensors" if suffix == ".safetensors" else "pytorch_model.bin"
    layer = torch.randn(2048, 2048).bfloat16()
    weight_map = {}
    for shard in range(layers // shard_layers):
        names = [f"{shard * shard_layers + i}.weight" for i in range(shard_layers)]
        tensors = {name: layer + i for i, name in enumerate(names)}
        file = f"{stem.split('.')[0]}-{shard}{suffix}"
        save_file(tensors, tmp_path / file) if suffix == ".safetensors" else torch.save(tensors, tmp_path / file)
        weight_map |= dict.fromkeys(names, file)
    (tmp_path / f"{stem}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (tmp_path / "config.json").write_text("{}")
    command = [sys.executable, "-c", FILL_AND_MEASURE, str(tmp_path)]
    # One thread on any machine: each has memory of its own.
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=alone)
    assert int(done.stdout) < (layers + shard_layers) * layer_bytes + (16 << 20)
