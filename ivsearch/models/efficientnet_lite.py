"""EfficientNet-Lite image classifiers in plain torch.

The network of Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks" (2019), in the Lite
form Google published in 2020: no squeeze-and-excitation, ReLU6 for swish, stem, head and the repeats of the first and
last stage not scaled. State-dict keys are those of the published torch weights (``_conv_stem``, ``_blocks.0._bn1``, …).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval


@dataclass(frozen=True, slots=True)
class LiteScale:
    """How one Lite variant is scaled. ``image_size`` is the side of its square input in pixels."""

    width: float
    depth: float
    image_size: int


LITE_SCALES = {
    "lite0": LiteScale(1.0, 1.0, 224),
    "lite1": LiteScale(1.0, 1.1, 240),
    "lite2": LiteScale(1.1, 1.2, 260),
}

# The stages of EfficientNet-B0: repeats, kernel, stride, expansion, channels out.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
BATCH_NORM_EPSILON = 1e-3


def scaled_channels(channels: int, width: float) -> int:
    """Channels times ``width``, rounded to a multiple of 8 and never more than 10 % down."""
    if width == 1.0:
        return channels
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded


def batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=BATCH_NORM_EPSILON)


def relu6(fresh: Tensor) -> Tensor:
    """Clamp to [0, 6] in place: ``fresh`` is what a layer just made, and no one else's."""
    return functional.relu6(fresh, inplace=True)


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "SAME" padding: output side = ceil(side / stride), odd pixels right and below."""

    def forward(self, pixels: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = pixels.shape[-2:]
        pad_h = max((math.ceil(height / stride) - 1) * stride + kernel - height, 0)
        pad_w = max((math.ceil(width / stride) - 1) * stride + kernel - width, 0)
        if pad_h == pad_w and pad_h % 2 == 0:
            return functional.conv2d(pixels, self.weight, self.bias, stride, pad_h // 2, 1, self.groups)
        pixels = functional.pad(pixels, (pad_w // 2, pad_w - pad_w // 2, pad_h // 2, pad_h - pad_h // 2))
        return functional.conv2d(pixels, self.weight, self.bias, stride, 0, 1, self.groups)


class InvertedResidual(nn.Module):
    """MBConv: 1x1 expansion, depthwise convolution, linear 1x1 projection, a skip where shapes allow."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels_in * expansion
        self.expands = expansion != 1
        self.skips = stride == 1 and channels_in == channels_out
        if self.expands:
            self._expand_conv = SameConv2d(channels_in, inner, 1, bias=False)
            self._bn0 = batch_norm(inner)
        self._depthwise_conv = SameConv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = batch_norm(inner)
        self._project_conv = SameConv2d(inner, channels_out, 1, bias=False)
        self._bn2 = batch_norm(channels_out)

    def forward(self, features: Tensor) -> Tensor:
        inner = relu6(self._bn0(self._expand_conv(features))) if self.expands else features
        inner = relu6(self._bn1(self._depthwise_conv(inner)))
        out: Tensor = self._bn2(self._project_conv(inner))
        return out + features if self.skips else out


class EfficientNetLite(nn.Module):
    """(n, 3, side, side) float32, pixels (value - 127) / 128, to (n, 1000) logits of ImageNet-1k."""

    def __init__(self, scale: LiteScale, n_classes: int = 1000) -> None:
        super().__init__()
        self.scale = scale
        self._conv_stem = SameConv2d(3, STEM_CHANNELS, 3, 2, bias=False)
        self._bn0 = batch_norm(STEM_CHANNELS)
        blocks = []
        channels = STEM_CHANNELS
        for stage, (repeats, kernel, stride, expansion, channels_out) in enumerate(STAGES):
            channels_out = scaled_channels(channels_out, scale.width)
            if 0 < stage < len(STAGES) - 1:
                repeats = math.ceil(repeats * scale.depth)
            for repeat in range(repeats):
                blocks.append(InvertedResidual(channels, channels_out, kernel, stride if repeat == 0 else 1, expansion))
                channels = channels_out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv2d(channels, HEAD_CHANNELS, 1, bias=False)
        self._bn1 = batch_norm(HEAD_CHANNELS)
        self._fc = nn.Linear(HEAD_CHANNELS, n_classes)

    def feature_map(self, pixels: Tensor) -> Tensor:
        """(n, 3, h, w) to (n, 1280, ceil(h/32), ceil(w/32)), before pooling."""
        features = relu6(self._bn0(self._conv_stem(pixels)))
        for block in self._blocks:
            features = block(features)
        return relu6(self._bn1(self._conv_head(features)))

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self._fc(self.feature_map(pixels).mean(dim=(2, 3)))
        return logits

    def fold_batch_norms(self) -> None:
        """Fold every batch norm into the convolution before it, for inference: the same logits up to rounding."""
        for module in (self, *self._blocks):
            for convolution, norm in FOLDS:
                if isinstance(getattr(module, norm, None), nn.BatchNorm2d) and hasattr(module, convolution):
                    fused = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
                    setattr(module, convolution, fused)
                    setattr(module, norm, nn.Identity())


FOLDS = (
    ("_conv_stem", "_bn0"),
    ("_expand_conv", "_bn0"),
    ("_depthwise_conv", "_bn1"),
    ("_project_conv", "_bn2"),
    ("_conv_head", "_bn1"),
)


def read_efficientnet_lite(variant: str, path: Path) -> EfficientNetLite:
    """The network ``variant`` with the weights at ``path``, every key and shape checked, ready for inference."""
    network = EfficientNetLite(LITE_SCALES[variant])
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)
    return network.eval().requires_grad_(False)
