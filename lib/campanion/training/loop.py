"""One training loop for every network: on a CPU, a GPU or many, stopped and continued without a trace.

The order of the images, the augmentations and dropout of an epoch are drawn from generators that are seeded with
(seed, epoch), and the learning rate is a function of the step. So a run that was killed resumes after its last whole
epoch and ends with the same weights; the state to keep is weights, momenta and the number of epochs done.

With several processes (``torchrun``) each takes its share of every batch and of the test images; sums, not means, are
added up, so that shares of unequal size count right. Batch norm is the one thing that sees a process's share only: on
GPUs it is replaced by ``SyncBatchNorm``, on CPUs, where torch has none, its statistics are of the share.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast
from torch import Tensor, nn

from campanion.inference import half_precision
from campanion.models.load import build_network, load_trained, start_from_imagenet
from campanion.models.network import Objective
from campanion.models.preprocess import Preprocess
from campanion.paths import locked
from campanion.progress import terminal_bar, track
from campanion.results.provenance import device_name
from campanion.training.batches import Draw, draw, normalise, smooth
from campanion.training.checkpoint import (
    as_stored,
    export_checkpoint,
    halved,
    load_state,
    open_tensorboard,
    save_state,
    write_checkpoint,
    write_history,
)
from campanion.training.parts import evaluate, open_part
from campanion.training.recipe import learning_rate, make_optimiser, seed_of
from campanion.training.settings import Config, difference


def make_accelerator(config: Config) -> Accelerator:
    """accelerate's view of the device and the processes; the precision is that of :func:`half_precision`."""
    cpu = config.device == "cpu" or not torch.cuda.is_available()
    if config.compile and cpu:
        raise ValueError("compile=true needs a CUDA GPU; leave it out here.")
    # accelerate keeps one state for the whole process and refuses a second run on another device.
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(
        cpu=cpu,
        mixed_precision="no",  # see half_precision
        dynamo_backend="inductor" if config.compile else None,
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True)],
    )


class Run:
    """One training run; :func:`train` is what a user calls."""

    def __init__(self, config: Config) -> None:
        self.config, self.recipe = config, config.numbers
        self.accelerator = make_accelerator(config)
        self.device, self.rank = self.accelerator.device, self.accelerator.process_index
        self.processes = self.accelerator.num_processes
        storage = self.device if self.device.type == "cuda" else "cpu"
        self.train, self.test = (open_part(config, split, storage) for split in ("train", "test"))
        mean, std = config.statistics
        preprocess = Preprocess(config.pixels, tuple(mean), tuple(std))
        self.network = build_network(config.spec, self.train.class_names, preprocess, config.seed)
        if self.processes > 1 and self.device.type == "cuda":
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        if config.init == "imagenet":
            start_from_imagenet(self.network, config.network)
        self.network.to(memory_format=torch.channels_last)
        for name, parameter in self.network.named_parameters():
            # what no gradient reaches is not trained, and distributed training would wait for its gradient
            parameter.requires_grad_(name not in self.network.unused)
        optimiser = make_optimiser([p for p in self.network.parameters() if p.requires_grad], self.recipe)
        self.objective, self.optimiser = self.accelerator.prepare(Objective(self.network), optimiser)
        self.history: list[dict[str, object]] = []
        self.best: dict[str, object] = {"epoch": 0, "top1": -1.0}
        self.batches = len(self._order(0))
        if not self.batches:
            raise ValueError(f"{len(self.train.labels)} training images are too few for {self.processes} processes.")
        self.settled = json.dumps(
            {**config.settled(), "train": self.train.card, "test": self.test.card}, sort_keys=True, default=list
        )

    def _order(self, epoch: int) -> tuple[Tensor, ...]:
        """The batches of an epoch, each over all processes."""
        generator = torch.Generator().manual_seed(seed_of(self.config.seed, epoch, 0))
        batches = torch.randperm(len(self.train.labels), generator=generator).split(self.recipe.batch)
        # A last batch with fewer than two images per process is left out: batch norm cannot be trained on one.
        return batches if len(batches[-1]) >= 2 * self.processes else batches[:-1]

    def _draws(self, batches: tuple[Tensor, ...], epoch: int) -> Iterator[Draw]:
        generator = torch.Generator().manual_seed(seed_of(self.config.seed, epoch, 1))
        r = self.recipe
        for indices in batches:
            drawn = draw(indices, r.augment, self.config.pixels, generator, r.padding, r.min_area)
            yield drawn.part(self.rank, self.processes)

    def epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch (counted from 0); mean loss and accuracy over all training images seen."""
        batches = self._order(epoch)
        torch.manual_seed(seed_of(self.config.seed, epoch, 2, self.rank))  # dropout
        self.network.train()
        preprocess, smoothing = self.network.preprocess, self.recipe.label_smoothing
        sums = torch.zeros(3, device=self.device)
        steps = self.recipe.epochs * self.batches
        label = f"epoch {epoch + 1} of {self.recipe.epochs}"
        shown = track(batches, label, unit="batch") if self.accelerator.is_main_process else batches
        pixels_of = self.train.images.batches(self._draws(batches, epoch))
        for step, (whole, pixels) in enumerate(zip(shown, pixels_of, strict=True), start=epoch * self.batches):
            for group in self.optimiser.param_groups:
                group["lr"] = learning_rate(self.recipe, step, steps)
            images = normalise(pixels.to(self.device), preprocess.mean, preprocess.std)
            labels = self.train.labels[whole.tensor_split(self.processes)[self.rank]].to(self.device)
            targets = smooth(labels, len(self.train.class_names), smoothing)
            with half_precision(self.device.type, self.config.precision == "bf16") as cast:
                loss, logits = self.objective(cast(images), targets)
            # Gradients are averaged over the processes: shares of unequal size count by their size.
            self.accelerator.backward(loss * (len(labels) * self.processes / len(whole)))
            self.optimiser.step()
            self.optimiser.zero_grad()
            right = (logits.detach().argmax(1) == labels).sum()
            sums += torch.stack([loss.detach().float() * len(labels), right, right.new_tensor(len(labels))])
        loss, right, count = self.accelerator.reduce(sums, "sum").tolist()
        if not np.isfinite(loss):
            raise ValueError(
                f"The loss is not a finite number in epoch {epoch + 1}: a lower lr than {self.recipe.lr:g} may help."
            )
        for buffer in self.network.buffers():  # batch norm's running statistics: the first process's are kept
            broadcast(buffer)
        return {"loss": loss / count, "top1": right / count, "n": count}

    def restore(self) -> None:
        """Resume from the run's last whole state, if it has one; ValueError: it was made with other settings."""
        state = load_state(self.config.place)
        if state is None:
            return
        if changed := difference(json.loads(state["settled"]), json.loads(self.settled)):
            raise ValueError(f"{self.config.place} holds a run with other settings ({changed}): give this one a name.")
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.history, self.best = state["history"], state["best"]

    def go(self) -> dict[str, object]:
        """Train what is missing and write the checkpoint; its facts (in the first process; others: an empty dict)."""
        main = self.accelerator.is_main_process
        with locked(self.config.place / "lock") if main else nullcontext():  # another process of this run is waited for
            self.accelerator.wait_for_everyone()
            self.restore()
            if main and self.history:
                write_history(self.config.place, self.history)  # it may lack an epoch: the state is written before it
                print(f"{self.config.run}: resumes after epoch {len(self.history)}", flush=True)
            self._train_epochs(main)
            self.accelerator.wait_for_everyone()
            return self._finish() if main else {}

    def _train_epochs(self, main: bool) -> None:
        first = len(self.history)
        curves = open_tensorboard(self.config.place, self.config.tensorboard, first) if main else None
        for epoch in range(first, self.recipe.epochs):
            start, cpu = time.monotonic(), time.process_time()
            trained = self.epoch(epoch)
            seconds = time.monotonic() - start
            tested = evaluate(self.network, self.test, accelerator=self.accelerator, precision=self.config.precision)
            row = {
                "epoch": epoch + 1,
                "lr": self.optimiser.param_groups[0]["lr"],
                "train_loss": trained["loss"],
                "train_top1": trained["top1"],
                "test_loss": tested["loss"],
                "test_top1": tested["top1"],
                "images_per_s": trained["n"] / seconds,
                "seconds": time.monotonic() - start,
                "cpu_seconds": time.process_time() - cpu,
                "device": device_name(self.device),
                "processes": self.processes,
            }
            self.history.append(row)
            if tested["top1"] > self.best["top1"]:
                self.best = {"epoch": epoch + 1, "top1": tested["top1"], "network": weights_of(self.network, copy=True)}
            if main:
                kept = {"settled": self.settled, "history": self.history, "best": self.best}
                parts = {"network": weights_of(self.network), "optimiser": self.optimiser.state_dict()}
                save_state(self.config.place, kept | parts)
                self._say(row, first)
                if curves is not None:
                    for name in ("lr", "train_loss", "train_top1", "test_loss", "test_top1", "images_per_s"):
                        curves.add_scalar(name, row[name], epoch + 1)
                    curves.flush()

    def _say(self, row: dict, first: int) -> None:
        left = (self.recipe.epochs - row["epoch"]) * float(np.mean([r["seconds"] for r in self.history[first:]]))
        print(
            f"{self.config.run}: epoch {row['epoch']}/{self.recipe.epochs}, loss {row['train_loss']:.4f}, "
            f"train {100 * row['train_top1']:.2f} %, test {100 * row['test_top1']:.2f} %, "
            f"{row['images_per_s']:.0f} images/s, {terminal_bar.format_interval(left)} left",
            flush=True,
        )

    def _finish(self) -> dict[str, object]:
        config, rows = self.config, self.history
        chosen = self.best["network"] if config.select == "best_on_test" else weights_of(self.network)
        spec, chosen = as_stored(config.spec, chosen, self.train.class_names, self.network.preprocess)
        path = config.place / f"{config.run}.safetensors"
        facts = {
            "name": config.run,
            "settings": config.settled(),
            "network": spec,
            "input": {"size": config.pixels, **dict(zip(("mean", "std"), map(list, config.statistics), strict=True))},
            "classes": list(self.train.class_names),
            "data": {"name": config.data, "train": self.train.card, "test": self.test.card},
            "recipe": {"name": config.recipe, **self.recipe.as_dict()},
            "seed": config.seed,
            "init": config.init,
            "precision": config.precision,
            "selected": config.select,
            "minutes": round(sum(row["seconds"] for row in rows) / 60, 1),
            "cpu_minutes": round(sum(row["cpu_seconds"] for row in rows) / 60, 1),
            "device": ", then ".join(dict.fromkeys(row["device"] for row in rows)),
            "processes": max(row["processes"] for row in rows),
        }
        facts = write_checkpoint(path, halved(chosen), facts, self._measured)
        if config.export:
            export_checkpoint(path, config.export)
        return facts

    def _measured(self, path: Path) -> dict[str, object]:
        """Facts of the network as it was stored: its size, and its accuracy on the test images."""
        network = load_trained(path)
        tested, last = evaluate(network.to(self.device), self.test), self.history[-1]
        return {
            "parameters": sum(p.numel() for p in network.parameters()),
            "target_layer": network.target_layer,
            "accuracy": {
                "test": {"top1": tested["top1"], "n": tested["n"]},
                "last epoch": {"top1": last["test_top1"], "epoch": last["epoch"]},
                "best epoch on test": {"top1": self.best["top1"], "epoch": self.best["epoch"]},
            },
            "measured on": device_name(self.device),
        }


def weights_of(network: nn.Module, copy: bool = False) -> dict[str, Tensor]:
    """Parameters and buffers on the CPU."""
    return {name: t.detach().cpu().clone() if copy else t.detach().cpu() for name, t in network.state_dict().items()}


def train(config: Config) -> dict[str, object]:
    """Train, or resume a training run that was stopped, and write the checkpoint.

    Into ``config.place`` go ``history.csv`` (learning curves), ``state.pt`` (to resume from), ``tensorboard/`` and, in
    the end, ``RUN.safetensors`` with its facts ``.json`` and card ``.md``.

    Returns:
        The facts of the checkpoint (in the first of several processes; an empty dictionary in the others).

    Raises:
        ValueError: settings that do not fit, a run of that name with others, or a loss that is no longer finite.
        MissingData: the data are not there.

    Example:
        >>> facts = train(make_config({"data": "cifar10", "network": "resnet20", "attention": "lfi"}))
        >>> facts["accuracy"]["test"]["top1"]
    """
    with torch.random.fork_rng():  # dropout's seeds are the run's own
        return Run(config).go()
