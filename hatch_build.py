"""A wheel brings what the public interface needs of data/; campanion.paths finds it where there is no checkout."""

from __future__ import annotations

from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Networks that have a name in campanion.load_model; those of LFI-CAM's grid stay in the checkout.
NAMED = (
    "scenes_vgg", "scenes_resnet", "scenes_lfi", "scenes_lfi_nofin", "scenes_abn", "imagenette_vgg", "voc_mlp",
    "voc_linear", "vqa_scenes",
)  # fmt: skip


class Shipped(BuildHookInterface):
    """Adds files to a wheel; an editable installation has them in the checkout."""

    def initialize(self, version: str, build_data: dict) -> None:
        if version != "standard":
            return
        data = Path(self.root) / "data"
        files = [data / "checkpoints" / f"{name}.{kind}" for name in NAMED for kind in ("safetensors", "json")]
        for path in (data / "papers", data / "pictures", *files):
            build_data["force_include"][str(path)] = f"campanion/shipped/{path.relative_to(data).as_posix()}"
