# The workflow: checkpoints -> notebooks -> scoreboard. `campanion reproduce` (./reproduce.sh) asks for a mode and targets, and has
# checked them; by hand:
#
#   snakemake --cores 2 --config mode=quick
#   snakemake --cores 8 --resources card=1 --config mode=full limit=500 targets=21_fd_table1_faithfulness
#
# Every stage is also a plain command (campanion notebooks run, campanion train), so nothing needs Snakemake. Here are rules only:
# what they ask for is found by campanion.notebooks.workflow when Snakemake makes its plan.

import os
import sys

from campanion.notebooks import workflow as flow

MODE = config.get("mode", "quick")
LIMIT = config.get("limit")
SCENES = [f"data/checkpoints/{name}.safetensors" for name in ("scenes_vgg", "scenes_resnet", "vqa_scenes")]
LEARNED = [f"data/checkpoints/{name}.safetensors" for name in ("scenes_lfi", "scenes_lfi_nofin", "scenes_abn")]
OUT = os.path.relpath(os.environ.get("CAMPANION_OUT") or "out")
TRAININGS = os.path.join(OUT, *(["quick"] if config.get("scale") == "quick" else []), "training")


def trainings(keys):
    """Checkpoints of the training runs that full runs of LFI-CAM's notebooks need, committed or below out/training."""
    if MODE != "full" or not any("_lfi_" in key for key in keys):
        return []
    from campanion.training.grid import cells, tables_of  # only here: importing PyTorch takes seconds

    chosen = cells(config.get("scale"), tables) if (tables := tables_of(keys)) else []
    return [os.path.relpath(c.checkpoint) for c in chosen if not c.missing_data and (c.weights_here or not c.done)]


def scale(wildcards):
    """How much is trained: what was asked for, or what suits the machine."""
    from campanion.training.grid import default_scale

    return config.get("scale") or default_scale()


def before_scoreboard(wildcards):
    """The scoreboard reads what all other notebooks of this run have written (cached ones write no result)."""
    if wildcards.key != flow.SCOREBOARD:
        return []
    return flow.executed(config, (key for key in flow.wanted(config) if key != flow.SCOREBOARD))


def share(wildcards):
    """Cores of one notebook where all run side by side; Snakemake scales threads down to --cores."""
    return max(1, (os.cpu_count() or 1) // len(flow.wanted(config)))


wildcard_constraints:
    key=r"\d\d_\w+",
    cell=r"[\w.\-]+",
    made=r"scenes_(vgg|resnet|lfi|lfi_nofin|abn)|vqa_scenes|voc_(mlp|linear)",


rule all:
    input:
        lambda wildcards: flow.executed(config, flow.wanted(config)),
        # also where a notebook was run before all of its training runs were done
        ancient(lambda wildcards: trainings(flow.wanted(config))),


# The checkpoints are committed: they are asked for as `ancient`, since the files of a fresh clone have no order in time.
# The network that answers questions starts from the trunk of a scene network.
rule checkpoint:
    input:
        ancient(lambda wildcards: SCENES[1:2] if wildcards.made == "vqa_scenes" and not os.path.exists(SCENES[2]) else []),
    output:
        "data/checkpoints/{made}.safetensors",
    log:
        "logs/checkpoints/{made}.txt",
    threads: lambda wildcards: os.cpu_count() or 1
    message:
        "{wildcards.made}: training, log in {log}"
    shell:
        "{sys.executable:q} -m campanion train {wildcards.made} > {log:q} 2>&1"


# One training run of LFI-CAM's grid: it goes on where it was stopped. Several share the machine's cores, or one GPU.
rule cell:
    output:
        f"{TRAININGS}/{{cell}}/{{cell}}.safetensors",
    log:
        "logs/training/{cell}.txt",
    benchmark: # seconds, processor time and the most memory
        "logs/training/{cell}.usage.tsv"
    params:
        scale=scale,
    threads: lambda wildcards: 1 if scale(wildcards) in ("brief", "reduced") else 4
    resources:
        gpu_cells=1,
    message:
        "{wildcards.cell}: training, log in {log}"
    shell:
        # Snakemake removes what a stopped job should have made: only the checkpoint, which is written last.
        "OMP_NUM_THREADS={threads} {sys.executable:q} -m campanion grid --scale {params.scale} --run"
        " --only {wildcards.cell:q} > {log:q} 2>&1"


# Generated scenes and small networks, on the CPU: out/quick holds everything that such a run writes.
rule quick:
    input:
        notebook=ancient("notebooks/{key}.ipynb"),
        checkpoints=ancient(SCENES + LEARNED),
        before=before_scoreboard,
    output:
        "out/quick/notebooks/{key}.ipynb",
    log:
        "logs/quick/{key}.txt",
    benchmark: # seconds, processor time and the most memory
        "logs/quick/{key}.usage.tsv"
    params:
        source=lambda wildcards: flow.source(wildcards.key),
        code=lambda wildcards: flow.digest("lib/**/*.py", "data/papers/*"),
    threads: share
    resources:
        last=lambda wildcards: flow.last_time("quick", wildcards.key),
    message:
        "{wildcards.key}: quick run ({resources.last}), log in {log}"
    shell:
        "{sys.executable:q} -m campanion notebooks run {wildcards.key} --mode quick --output {output:q} > {log:q} 2>&1"


# Real data. Not redone when the library changes: that may take hours, and a changed setting is refused by the rows' file.
rule full:
    input:
        notebook=ancient("notebooks/{key}.ipynb"),
        heads=ancient(lambda wildcards: flow.voc_heads(wildcards.key)),
        trainings=ancient(lambda wildcards: trainings([wildcards.key])),
        before=before_scoreboard,
    output:
        "out/full/notebooks/{key}.ipynb",
    log:
        "logs/full/{key}.txt",
    benchmark: # seconds, processor time and the most memory
        "logs/full/{key}.usage.tsv"
    params:
        source=lambda wildcards: flow.source(wildcards.key),
        limit=lambda wildcards: ["--limit", LIMIT] if LIMIT else [],
        scale=lambda wildcards: ["-p", f"scale={scale(wildcards)}"] if trainings([wildcards.key]) else [],
    threads: lambda wildcards: os.cpu_count() or 1
    resources:
        card=1,  # one at a time on this machine; a cluster's profile asks for GPUs itself
        last=lambda wildcards: flow.last_time("full", wildcards.key),
    message:
        "{wildcards.key}: full run ({resources.last}), log in {log}, progress in logs/full/{wildcards.key}.progress.log"
    shell:
        "{sys.executable:q} -m campanion notebooks run {wildcards.key} --mode full {params.limit} {params.scale}"
        " --output {output:q} > {log:q} 2>&1"


# The committed notebooks, executed in place on the committed results; they also save figures/.
rule cached:
    input:
        notebook=ancient("notebooks/{key}.ipynb"),
        checkpoints=ancient(SCENES + LEARNED),
    output:
        "out/cached/notebooks/{key}.ipynb",
    log:
        "logs/cached/{key}.txt",
    params:
        source=lambda wildcards: flow.source(wildcards.key),
        code=lambda wildcards: flow.digest("lib/**/*.py", "data/papers/*", "data/results/*.json"),
    threads: share
    resources:
        last=lambda wildcards: flow.last_time("cached", wildcards.key),
    message:
        "{wildcards.key}: committed notebook run again ({resources.last}), log in {log}"
    shell:
        "{sys.executable:q} -m campanion notebooks run {wildcards.key} --mode cached > {log:q} 2>&1"
        " && cp {input.notebook:q} {output:q}"
