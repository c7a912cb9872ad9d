"""What is measured, by name: a protocol decides the numbers of the rows that carry its name."""

from __future__ import annotations

from dataclasses import dataclass

FD_METHODS = (
    "grad_cam", "grad_cam_pp", "xgrad_cam", "score_cam", "ablation_cam", "layer_cam", "group_cam", "fd_cam",
)  # fmt: skip
LIFT_METHODS = ("grad_cam", "grad_cam_pp", "score_cam", "ablation_cam", "xgrad_cam:lift", "lift_cam")


LIFT_EXTRA = ("lift_cam", "lrp_cam", "lime_cam")

LAST_POOLING = "pool5"  # VGG's name for it


@dataclass(frozen=True)
class Protocol:
    """What is measured and how; everything here decides numbers, and is kept in the rows' file.

    Methods are named as :func:`campanion.cams.methods.parse` reads them (``xgrad_cam:lift``).

    Attributes:
        curves: methods whose insertion and deletion are measured.
        compared: methods whose weights are compared with the Shapley values.
        orderings: of the Shapley reference (exact, without sampling, for a linear head); 0: no reference.
        step: of insertion and deletion, as a fraction of the pixels; 1/28 is FD-CAM's 3.6 %, 1792 of 224 x 224 pixels.
        baseline: of insertion, see :func:`campanion.metrics.insertion_deletion`.
        seed: of the order of the images and of the orderings of channels.
        precision: of the masked pictures' forwards, see :func:`campanion.inference.fast`.
        layer: the target layer, by default the model's own; :data:`LAST_POOLING` stands for the network's last
            max pooling, whatever its name.
    """

    curves: tuple[str, ...] = FD_METHODS
    compared: tuple[str, ...] = (*LIFT_METHODS, "xgrad_cam")
    orderings: int = 10_000
    step: float = 1 / 28
    baseline: str = "blur"
    seed: int = 0
    precision: str = "float32"
    layer: str | None = None


STANDARD = Protocol()

FD_ABLATION = ("fd_cam_ng_off", "fd_cam_g_off", "fd_cam", "fd_cam_linear", "fd_cam_exp_b0")
FD_SWEEP = (
    *(f"fd_cam:bias={b}" for b in (0.25, 0.75, 1)), *(f"fd_cam:percentile={theta}" for theta in (1, 2.5, 10, 20, 40)),
)  # fmt: skip
FD_READINGS = ("fd_cam", "fd_cam:percentile_of=all", "fd_cam:score=probability")

#: The methods of LFI-CAM's Fig. 3 and 4 that every network has, and this project's two.
POST_HOC = ("cam", "grad_cam", "grad_cam_pp", "score_cam", "lift_cam", "fd_cam")

#: By the name of their rows. Every one of them measures confidence and energy too.
PROTOCOLS: dict[str, Protocol] = {
    # FD-CAM Table I, LIFT-CAM Tables 2, 3 and 5
    "cams": STANDARD,
    # FD-CAM Table I alone, where other rows serve LIFT-CAM's tables
    "fd": Protocol(compared=(), orderings=0),
    # FD-CAM Tables III and IV, the sweep that they lack, and what the paper leaves open
    "fd_ablation": Protocol(curves=FD_ABLATION, compared=(), orderings=0),
    "fd_sweep": Protocol(curves=FD_SWEEP, compared=(), orderings=0),
    "fd_readings": Protocol(curves=FD_READINGS, compared=(), orderings=0),
    "fd_zero": Protocol(curves=("grad_cam", "fd_cam"), compared=(), orderings=0, baseline="zero"),
    # A network's own map beside post-hoc maps of the same network (LFI-CAM Fig. 3)
    "lfi_maps": Protocol(curves=("lfi_cam", *POST_HOC), compared=(), orderings=0),
    "abn_maps": Protocol(curves=("abn", *POST_HOC), compared=(), orderings=0),
    # LIFT-CAM Tables 2 to 5 in one pass: Score-CAM's masked forwards, the dearest part, serve all four
    "lift": Protocol(curves=LIFT_METHODS, step=0.025, baseline="zero"),
    # LIFT-CAM Table 2 at the layer that its authors' code takes: the last pooling, not the ReLU before it
    "lift_pool5": Protocol(curves=(), compared=(*LIFT_METHODS, "xgrad_cam"), layer=LAST_POOLING),
    # What the authors' repository has beside the paper's six, on the same images
    "lift_extra": Protocol(curves=(), compared=LIFT_EXTRA),
    # LIFT-CAM Table 4 alone: binary masks without blur, 2.5 % a step
    "lift_curves": Protocol(curves=LIFT_METHODS, compared=(), orderings=0, step=0.025, baseline="zero"),
}

#: Protocols whose rows hold what LIFT-CAM's Tables 2, 3 and 5 need, in order of preference.
LIFT_ROWS = ("lift", "cams")
