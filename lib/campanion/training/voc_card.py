"""The model card of a VOC network, from its facts alone."""

from __future__ import annotations

from collections.abc import Mapping

from campanion.models.voc_nets import RANKS

#: What a card says of a network: its trunk's name, its head, and what is to be known of both.
_KINDS = {
    "voc_vgg16": (
        "VGG16",
        "two hidden layers of 4,096 units on the flattened maps, as VGG16 has them",
        """
- What differs from the VGG16 of the FD-CAM and LIFT-CAM papers: the trunk is the original network's (Simonyan and
  Zisserman) and was not fine-tuned; the three layers after it were trained here, on train alone (not on trainval), and
  are not ImageNet's fc6 and fc7 fine-tuned, which could not be had. The two large matrices are products of two factors,
  of ranks {ranks}, from the truncated singular value decomposition (Girshick, Fast R-CNN, section 3.1), trained
  on as factors; `campanion.models.voc_nets.multiplied_out` gives the same function as torchvision's own VGG16.""",
    ),
    "voc_mlp": ("ResNet-18", "two hidden layers on the flattened maps", ""),
    "voc_linear": ("ResNet-18", "mean over pixels, one layer", ""),
}


def card(facts: Mapping) -> str:
    """The model card, from the facts alone."""
    measured = facts["evaluation"]
    rows = "\n".join(f"| {where} | {found['mAP']:.3f} | {found['n']:,} |" for where, found in measured.items())
    columns = [found["classes"] for found in measured.values()]
    each = "\n".join(
        f"| {name} | " + " | ".join(f"{column[name]:.3f}" if name in column else "-" for column in columns) + " |"
        for name in facts["classes"]
    )
    network, kind, differs = _KINDS[facts["name"]]
    trunk, views = facts["trunk"], ", ".join(facts["views"])
    stages = f"{facts['epochs']} epochs at {facts['learning_rate']} on maps averaged over their positions"
    if facts["fine_epochs"]:
        cut = " after the decomposition" if facts["name"] == "voc_vgg16" else ""
        stages += (
            f",\n  then {facts['fine_epochs']} at {facts['fine_learning_rate']} with each position's own weights{cut}"
        )
    spent = facts["minutes_of_maps"]
    kept = f"took {spent} of them" if spent else "were kept from an earlier run"
    made = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    return f"""# {facts["name"]}

A multi-label classifier of Pascal VOC's 20 classes: torchvision's {network} with ImageNet weights, frozen, and a head
trained by this project ({kind}; {facts["parameters"]:,} parameters). Only the head
is in `{facts["name"]}.safetensors`; the trunk is `{trunk["name"]}` of the data folder. Maps are explained at
`{facts["target_layer"]}`.

| pictures | mAP | N |
|---|---|---|
{rows}

- mAP: mean over the classes of the average precision (scikit-learn); a picture does not count for a class all of whose
  objects in it are marked difficult (VOC) or are crowds (COCO). Measured with the head as read back from the file.
- None of these pictures was used in training, nor for choosing the settings: a fifth of the training pictures was held
  out for that.
- Data: {facts["data"]};
  {facts["n"]:,} of them used.
- Training: binary cross-entropy of each class, seed {facts["seed"]}, batches of {facts["batch"]}, AdamW with a cosine
  schedule, weight decay {facts["weight_decay"]}, dropout {facts["dropout"]}, in each epoch one view of each picture
  ({views}):
  {stages}.
- Trunk: `{trunk["origin"]}`, sha256 `{trunk["sha256"]}`;
  with other weights of {network} the mAP is another.{differs.format(ranks=" and ".join(map(str, RANKS)))}
- Training took {facts["minutes"]} minutes ({facts["cpu_minutes"]} of processor time) on {facts["device"]}, with
  {made}; the trunk's maps ({facts["precision"]}) {kept}.
- Made again by `python -m campanion train {facts["name"]}`.
- File: {facts["bytes"]:,} bytes, sha256 `{facts["sha256"]}`.
  Licence of the head: MIT, as the code.

| average precision | {" | ".join(measured)} |
|---|{"---|" * len(measured)}
{each}
"""
