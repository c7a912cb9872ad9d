"""The finished checkpoint of a training run: weights in half precision, their facts, and a card to read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from campanion import paths
from campanion.files import replacing, sha256, write_whole
from campanion.models.trained import load_trained
from campanion.results.provenance import commit, device_name, versions
from campanion.training.checkpoints import write_weights
from campanion.training.settings import Config


def halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in float16; biases, batch norm's parameters and statistics, which are few, stay float32."""
    return {name: (t.half() if t.is_floating_point() and t.ndim >= 2 else t).contiguous() for name, t in state.items()}


def write_checkpoint(
    config: Config,
    state: Mapping[str, Tensor],
    history: Mapping[str, object],
    data: Mapping[str, object],
    measure: Callable[[nn.Module], Mapping[str, float]],
) -> dict[str, object]:
    """Write ``RUN.safetensors``, ``.json`` and ``.md`` into the run's folder and, where asked, export them.

    They are made and measured in the folder ``untested`` and then take their places, the weights last: a checkpoint
    that can be found is whole and has its accuracy, whenever the run is killed.

    Args:
        config: of the run.
        state: the chosen weights.
        history: ``rows``, one per epoch, and ``best``: epoch and accuracy.
        data: ``train`` and ``test`` in words, and ``classes``.
        measure: gives ``top1`` and ``n`` of a network on the test pictures; called with the network as read back.

    Returns:
        The facts, as in the ``.json``.
    """
    name, rows, best = config.run, history["rows"], history["best"]
    place, path = config.place / f"{name}.safetensors", config.place / "untested" / f"{name}.safetensors"
    path.parent.mkdir(exist_ok=True)
    write_weights(path, halved(state), f"campanion.train, {name}")
    mean, std = config.statistics
    facts: dict[str, object] = {
        "name": name,
        "settings": config.settled(),
        "network": config.spec,
        "parameters": 0,
        "target_layer": "",
        "input": {"size": config.pixels, "mean": list(mean), "std": list(std)},
        "classes": data["classes"],
        "data": {"name": config.data, "train": data["train"], "test": data["test"]},
        "recipe": {"name": config.recipe, **config.numbers.as_dict()},
        "seed": config.seed,
        "init": config.init,
        "precision": config.precision,
        "selected": config.select,
        "accuracy": {},
        "minutes": round(sum(row["seconds"] for row in rows) / 60, 1),
        "cpu_minutes": round(sum(row["cpu_seconds"] for row in rows) / 60, 1),
        "device": ", then ".join(dict.fromkeys(row["device"] for row in rows)),
        "processes": max(row["processes"] for row in rows),
        "versions": versions(),
        "commit": commit(),
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
    }
    _write(path, facts)
    network = load_trained(path)
    facts["parameters"], facts["target_layer"] = sum(p.numel() for p in network.parameters()), network.target_layer
    tested = measure(network)
    facts["accuracy"] = {
        "test": {"top1": tested["top1"], "n": tested["n"]},
        "last epoch": {"top1": rows[-1]["test_top1"], "epoch": len(rows)},
        "best epoch on test": {"top1": best["top1"], "epoch": best["epoch"]},
    }
    facts["measured on"] = device_name(next(network.parameters()).device)
    _write(path, facts)
    write_whole(path.with_suffix(".md"), card(facts).encode())
    place.unlink(missing_ok=True)  # never older weights beside a newer card
    for suffix in (".json", ".md", ".safetensors"):
        path.with_suffix(suffix).replace(place.with_suffix(suffix))
    shutil.rmtree(path.parent)  # with what a killed run left there
    if config.export:
        target = Path(config.export).expanduser()
        target = target if target.is_absolute() else paths.root() / target
        for suffix in (".safetensors", ".json", ".md"):
            with replacing(target / f"{name}{suffix}") as part:
                shutil.copyfile(place.with_suffix(suffix), part)
    return facts


def _write(path: Path, facts: Mapping[str, object]) -> None:
    write_whole(path.with_suffix(".json"), (json.dumps(facts, indent=2) + "\n").encode())


def card(facts: Mapping) -> str:
    """The model card, from the facts alone."""
    network, recipe, given, accuracy = (facts[key] for key in ("network", "recipe", "input", "accuracy"))
    fin = {"trained": "", "frozen": ", FIN as initialised", "none": ", no FIN"}[network.get("fin", "trained")]
    kind = {None: "", "abn": " with ABN's attention branch", "lfi": f" with LFI-CAM ({network['generation']}{fin})"}
    options = "".join(f", {key} {value}" for key, value in (network["options"] or {}).items())
    rule = {
        "last": "the last epoch's",
        "best_on_test": "the epoch's that was best on these very test pictures, as the authors choose: the accuracy "
        "flatters it",
    }
    start = "from ImageNet weights, " if facts.get("init") == "imagenet" else ""
    changed = ", ".join(f"{key} {value}" for key, value in recipe.items() if key != "name")
    made = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    best, last = accuracy["best epoch on test"], accuracy["last epoch"]
    return f"""# {facts["name"]}

{network["network"]}{kind[network["attention"]]}{options}; {facts["parameters"]:,} parameters; maps are explained at
`{facts["target_layer"]}`. Classes: {", ".join(facts["classes"][:20])}{" ..." if len(facts["classes"]) > 20 else ""}.

| measured with the file's weights (half precision, computed in float32) | top-1 | N |
|---|---|---|
| test pictures | {100 * accuracy["test"]["top1"]:.2f} % | {accuracy["test"]["n"]:,} |

- Trained on: {facts["data"]["train"]}
- Tested on: {facts["data"]["test"]}
- Input: RGB, the whole picture squashed to {given["size"]}x{given["size"]}, in 0..1, mean {given["mean"]}, standard
  deviation {given["std"]}.
- Training: {start}seed {facts["seed"]}, precision {facts["precision"]}, recipe `{recipe["name"]}` ({changed}).
- The weights are {rule[facts["selected"]]}. While training, the last of {last["epoch"]} epochs had
  {100 * last["top1"]:.2f} % and the best, number {best["epoch"]}, {100 * best["top1"]:.2f} %.
- It took {facts["minutes"]} minutes ({facts["cpu_minutes"]} of the first process's processor time) on
  {facts["device"]}, {facts["processes"]} process{"es" if facts["processes"] > 1 else ""}, with {made}.
- All settings are in `{facts["name"]}.json`; `docs/training.md` says how to train again.
- File: `{facts["name"]}.safetensors`, {facts["bytes"]:,} bytes, sha256 `{facts["sha256"]}`. Licence: MIT, as the code;
  the pictures that it was trained on are not part of it.
"""
