# The workflow: checkpoints -> notebooks -> scoreboard. ./reproduce.sh calls it; by hand:
#
#   snakemake --cores 2 --config mode=quick
#   snakemake --cores 8 --resources gpu=1 --config mode=full limit=500 targets=21_fd_table1_faithfulness
#
# Every stage is also a plain command (campanion notebooks run, campanion train), so nothing needs Snakemake.

import hashlib
import json
import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# reproduce.sh keeps Snakemake's own cache in the checkout; jobs use the user's.
if "CAMPANION_XDG_CACHE_HOME" in os.environ:
    os.environ.pop("XDG_CACHE_HOME", None)
    if cache := os.environ.pop("CAMPANION_XDG_CACHE_HOME"):
        os.environ["XDG_CACHE_HOME"] = cache

MODE = config.get("mode", "quick")
LIMIT = config.get("limit")
SCALE = config.get("scale")  # of LFI-CAM's trainings (configs/grids/lfi.yaml); by default what suits the machine
ALL = sorted(path.stem for path in Path("notebooks").glob("[0-9][0-9]_*.ipynb"))
KEYS = str(config["targets"]).split(",") if config.get("targets") else ALL
SCOREBOARD = "99_scoreboard"
CHECKPOINTS = [f"data/checkpoints/{name}.safetensors" for name in ("scenes_vgg", "scenes_resnet", "vqa_scenes")]
LEARNED = [f"data/checkpoints/{name}.safetensors" for name in ("scenes_lfi", "scenes_lfi_nofin", "scenes_abn")]
VOC_HEADS = [f"data/checkpoints/voc_{head}.safetensors" for head in ("mlp", "linear")]  # on real data: for `full` only
CORES = os.cpu_count() or 1  # Snakemake scales threads down to --cores

if MODE not in ("quick", "full", "cached"):
    raise WorkflowError(f"mode is quick, full or cached, not {MODE!r}.")
if LIMIT is not None and (not isinstance(LIMIT, int) or LIMIT < 1):
    raise WorkflowError(f"limit is a number of images, not {LIMIT!r}.")
if unknown := sorted(set(KEYS) - set(ALL)):
    raise WorkflowError(f"Unknown notebook {unknown[0]!r}. Known: {', '.join(ALL)}.")


TRAININGS = os.path.join(os.path.relpath(os.environ.get("CAMPANION_OUT") or "out"), "training")
GRID = {}  # the trainings that full runs of LFI-CAM's notebooks need, by notebook
if MODE == "full" and any("_lfi_" in key for key in KEYS):
    from campanion.training.grid import cells, default_scale, tables_of

    SCALE = SCALE or default_scale()
    for key in KEYS:
        if tables := tables_of([key]):
            try:
                GRID[key] = [cell for cell in cells(SCALE, tables) if not cell.missing_data]
            except ValueError as error:
                raise WorkflowError(str(error)) from None


wildcard_constraints:
    key=r"\d\d_\w+",
    cell=r"[\w.\-]+",
    arch=r"scenes_(vgg|resnet)",
    learned=r"scenes_(lfi|lfi_nofin|abn)",


def executed(keys):
    return [f"out/{MODE}/notebooks/{key}.ipynb" for key in keys]


def digest(*patterns):
    """Changes when a file's content does. As inputs, whole folders would fill every message and follow the files' times."""
    paths = sorted(path for pattern in patterns for path in Path().glob(pattern) if path.is_file())
    return hashlib.sha256(b"".join(str(path).encode() + path.read_bytes() for path in paths)).hexdigest()


def source(wildcards):
    """The code of a notebook: running it again in place changes its file, but asks for no new run in another mode."""
    cells = json.loads(Path(f"notebooks/{wildcards.key}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()


def before_scoreboard(wildcards):
    """The scoreboard reads what all other notebooks of this run have written (cached ones write no result)."""
    return executed(key for key in KEYS if key != SCOREBOARD) if wildcards.key == SCOREBOARD else []


def voc_heads(wildcards):
    """The VOC classifiers, for a notebook that needs VOC's classes."""
    metadata = json.loads(Path(f"notebooks/{wildcards.key}.ipynb").read_text(encoding="utf-8"))["metadata"]
    needs = metadata.get("campanion", {}).get("needs", [])
    return VOC_HEADS if {"voc2007", "coco-voc"} & set(needs) else []


def last_time(wildcards):
    """How long a notebook took when it last ran in this mode, off its log: read before the log is written anew."""
    log = Path("logs") / MODE / f"{wildcards.key}.txt"
    found = re.findall(r"done in (\d+) s", log.read_text(encoding="utf-8")) if log.exists() else []
    return f"{found[-1]} s last time" if found else "not timed here yet"


def trainings(keys):
    """The checkpoints of these notebooks' trainings, committed or below out/training."""
    return list(dict.fromkeys(os.path.relpath(cell.checkpoint) for key in keys for cell in GRID.get(key, ())))


rule all:
    input:
        executed(KEYS),
        ancient(trainings(KEYS)),  # also where a notebook was run before all of its trainings were done


# The checkpoints are committed. Their rule exists only while one is missing, so that neither a fresh clone, whose files
# have no order in time, nor an edit of the training code ever replaces a committed checkpoint.
if not all(Path(path).exists() for path in CHECKPOINTS):

    rule checkpoint:
        output:
            "data/checkpoints/{arch}.safetensors",
        log:
            "logs/checkpoints/{arch}.txt",
        threads: CORES
        message:
            "{wildcards.arch}: training, log in {log}"
        shell:
            "{sys.executable:q} -m campanion train {wildcards.arch} > {log:q} 2>&1"


if not all(Path(path).exists() for path in LEARNED):

    rule learned_checkpoint:
        output:
            "data/checkpoints/{learned}.safetensors",
        log:
            "logs/checkpoints/{learned}.txt",
        threads: CORES
        message:
            "{wildcards.learned}: training, log in {log}"
        shell:
            "{sys.executable:q} -m campanion train {wildcards.learned} > {log:q} 2>&1"


if not Path("data/checkpoints/vqa_scenes.safetensors").exists():

    rule vqa_checkpoint: # it starts from a scene network's trunk
        input:
            ancient("data/checkpoints/scenes_resnet.safetensors"),
        output:
            "data/checkpoints/vqa_scenes.safetensors",
        log:
            "logs/checkpoints/vqa_scenes.txt",
        threads: CORES
        message:
            "vqa_scenes: training, log in {log}"
        shell:
            "{sys.executable:q} -m campanion train vqa_scenes > {log:q} 2>&1"


if not all(Path(path).exists() for path in VOC_HEADS):

    rule voc_head:
        output:
            "data/checkpoints/voc_{head}.safetensors",
        log:
            "logs/checkpoints/voc_{head}.txt",
        threads: CORES
        message:
            "voc_{wildcards.head}: training, log in {log}"
        shell:
            "{sys.executable:q} -m campanion train voc_{wildcards.head} > {log:q} 2>&1"


# One training of LFI-CAM's grid: it goes on where it was stopped. Several share the machine's cores, or one GPU.
rule cell:
    output:
        f"{TRAININGS}/{{cell}}/{{cell}}.safetensors",
    log:
        "logs/training/{cell}.txt",
    params:
        scale=SCALE,
    threads: 1 if SCALE == "reduced" else 4
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
        checkpoints=CHECKPOINTS + LEARNED,
        before=before_scoreboard,
    output:
        "out/quick/notebooks/{key}.ipynb",
    log:
        "logs/quick/{key}.txt",
    params:
        source=source,
        code=digest("lib/**/*.py", "data/papers/*"),
    threads: max(1, CORES // max(1, len(KEYS)))
    resources:
        last=last_time,
    message:
        "{wildcards.key}: quick run ({resources.last}), log in {log}"
    shell:
        "{sys.executable:q} -m campanion notebooks run {wildcards.key} --mode quick --output {output:q} > {log:q} 2>&1"


# Real data. Not redone when the library changes: that may take hours, and a changed setting is refused by the rows' file.
rule full:
    input:
        notebook=ancient("notebooks/{key}.ipynb"),
        heads=ancient(voc_heads),
        trainings=ancient(lambda wildcards: trainings([wildcards.key])),
        before=before_scoreboard,
    output:
        "out/full/notebooks/{key}.ipynb",
    log:
        "logs/full/{key}.txt",
    params:
        source=source,
        limit=["--limit", LIMIT] if LIMIT else [],
        scale=lambda wildcards: ["-p", f"scale={SCALE}"] if wildcards.key in GRID else [],
    threads: CORES
    resources:
        gpu=1,
        last=last_time,
    message:
        "{wildcards.key}: full run ({resources.last}), log in {log}, progress in logs/full/{wildcards.key}.progress.log"
    shell:
        "{sys.executable:q} -m campanion notebooks run {wildcards.key} --mode full {params.limit} {params.scale}"
        " --output {output:q} > {log:q} 2>&1"


# The committed notebooks, executed in place on the committed results; they also save figures/.
rule cached:
    input:
        notebook=ancient("notebooks/{key}.ipynb"),
        checkpoints=CHECKPOINTS + LEARNED,
    output:
        "out/cached/notebooks/{key}.ipynb",
    log:
        "logs/cached/{key}.txt",
    params:
        source=source,
        code=digest("lib/**/*.py", "data/papers/*", "data/results/*.json"),
    threads: max(1, CORES // max(1, len(KEYS)))
    resources:
        last=last_time,
    message:
        "{wildcards.key}: committed notebook run again ({resources.last}), log in {log}"
    shell:
        "{sys.executable:q} -m campanion notebooks run {wildcards.key} --mode cached > {log:q} 2>&1"
        " && cp {input.notebook:q} {output:q}"
