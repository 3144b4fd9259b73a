"""The network against the package that published its weights, a slow numpy block, and Google's published sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ivsearch.encode.mini_packages import CLASSIFIER_FILE, CLASSIFIER_PACKAGE
from ivsearch.models.efficientnet_lite import (
    LITE_SCALES,
    EfficientNetLite,
    InvertedResidual,
    SameConv2d,
    read_efficientnet_lite,
    scaled_channels,
)

# Logits of the package efficientnet-lite-pytorch 0.1.0 (EfficientNet.from_pretrained("efficientnet-lite2"), eval mode)
# on `synthetic_picture()`, written once with torch 2.13 on a CPU.
OFFICIAL_LOGITS = Path(__file__).parent / "data" / "efficientnet_lite2_logits.npy"


def synthetic_picture() -> torch.Tensor:
    """Two ramps and a checkerboard under seeded noise, (1, 3, 260, 260), normalised."""
    y, x = np.mgrid[:260, :260]
    noise = np.random.default_rng(2020).normal(0, 20, (3, 260, 260))
    pixels = np.stack([x * 255 / 259, y * 255 / 259, 255 * ((x // 26 + y // 26) % 2)]) + noise
    return (torch.from_numpy(pixels.clip(0, 255).astype(np.float32))[None] - 127) / 128


@pytest.fixture(scope="module")
def weights() -> Path:
    return CLASSIFIER_PACKAGE.file(CLASSIFIER_FILE)


def test_logits_are_those_of_the_official_package(weights: Path) -> None:
    network = read_efficientnet_lite("lite2", weights)
    logits = network(synthetic_picture())[0].numpy()
    np.testing.assert_allclose(logits, np.load(OFFICIAL_LOGITS), atol=1e-4)


def test_folding_batch_norms_keeps_the_logits(weights: Path) -> None:
    network = read_efficientnet_lite("lite2", weights)
    network.fold_batch_norms()
    assert not [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    logits = network(synthetic_picture())[0].numpy()
    np.testing.assert_allclose(logits, np.load(OFFICIAL_LOGITS), atol=2e-4)


@pytest.mark.parametrize(("variant", "millions"), [("lite0", 4.7), ("lite1", 5.4), ("lite2", 6.1)])
def test_parameter_counts_are_those_google_published(variant: str, millions: float) -> None:
    n_parameters = sum(parameter.numel() for parameter in EfficientNetLite(LITE_SCALES[variant]).parameters())
    assert n_parameters / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize(
    ("channels", "width", "expected"), [(16, 1.0, 16), (24, 1.1, 24), (40, 1.1, 48), (320, 1.1, 352)]
)
def test_channels_are_rounded_to_eights(channels: int, width: float, expected: int) -> None:
    assert scaled_channels(channels, width) == expected


def slow_same_conv(pixels: np.ndarray, weight: np.ndarray, stride: int, groups: int) -> np.ndarray:
    """Convolution (c, h, w) by the definition, TensorFlow's "SAME" padding."""
    c_out, c_in, kernel, _ = weight.shape
    _, height, width = pixels.shape
    out_h, out_w = -(-height // stride), -(-width // stride)
    top = max((out_h - 1) * stride + kernel - height, 0) // 2
    left = max((out_w - 1) * stride + kernel - width, 0) // 2
    out = np.zeros((c_out, out_h, out_w))
    for o in range(c_out):
        first = o // (c_out // groups) * c_in
        for i, j in np.ndindex(out_h, out_w):
            for c, u, v in np.ndindex(c_in, kernel, kernel):
                y, x = i * stride + u - top, j * stride + v - left
                if 0 <= y < height and 0 <= x < width:
                    out[o, i, j] += weight[o, c, u, v] * pixels[first + c, y, x]
    return out


@pytest.mark.parametrize(("kernel", "stride", "size"), [(3, 2, 6), (5, 2, 7), (5, 1, 5), (3, 1, 6)])
def test_block_equals_a_slow_block(kernel: int, stride: int, size: int) -> None:
    torch.manual_seed(0)
    block = InvertedResidual(4, 4, kernel, stride, expansion=2).eval()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.rand_like(module.weight) - 0.5
            module.running_var = torch.rand_like(module.weight) + 0.5
    pixels = torch.randn(1, 4, size, size + 1)

    def norm(values: np.ndarray, layer: nn.BatchNorm2d) -> np.ndarray:
        mean, variance = layer.running_mean.numpy(), layer.running_var.numpy()  # type: ignore[union-attr]
        scaled = (values - mean[:, None, None]) / np.sqrt(variance + 1e-3)[:, None, None]
        return scaled * layer.weight.detach().numpy()[:, None, None] + layer.bias.detach().numpy()[:, None, None]

    def weight(layer: SameConv2d) -> np.ndarray:
        return layer.weight.detach().numpy()

    slow = norm(slow_same_conv(pixels[0].numpy(), weight(block._expand_conv), 1, 1), block._bn0).clip(0, 6)
    slow = norm(slow_same_conv(slow, weight(block._depthwise_conv), stride, 8), block._bn1).clip(0, 6)
    slow = norm(slow_same_conv(slow, weight(block._project_conv), 1, 1), block._bn2)
    if stride == 1:
        slow = slow + pixels[0].numpy()
    with torch.inference_mode():
        np.testing.assert_allclose(block(pixels)[0].numpy(), slow, atol=1e-5)


def test_weights_of_another_shape_are_refused(weights: Path) -> None:
    with pytest.raises(RuntimeError, match=r"size mismatch|Missing key|Unexpected key"):
        read_efficientnet_lite("lite0", weights)


def test_a_missing_key_is_refused(weights: Path, tmp_path: Path) -> None:
    state = torch.load(weights, weights_only=True)
    del state["_blocks.3._bn1.running_var"]
    torch.save(state, tmp_path / "torn.pth")
    with pytest.raises(RuntimeError, match=r"_blocks\.3\._bn1\.running_var"):
        read_efficientnet_lite("lite2", tmp_path / "torn.pth")
