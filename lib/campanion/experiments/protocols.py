"""What is measured, by name: a protocol decides the numbers of the rows that carry its name."""

from __future__ import annotations

from dataclasses import asdict, dataclass

FD_METHODS = (
    "grad_cam", "grad_cam_pp", "xgrad_cam", "score_cam", "ablation_cam", "layer_cam", "group_cam", "fd_cam",
)  # fmt: skip
LIFT_METHODS = ("grad_cam", "grad_cam_pp", "score_cam", "ablation_cam", "xgrad_cam:lift", "lift_cam")
LIFT_EXTRA = ("lift_cam", "lrp_cam", "lime_cam")

LAST_POOLING = "pool5"  # VGG's name for it

#: What each image costs little for, and what forwards hundreds of masked images: runs of their own, over fewer.
FD_CHEAP = ("grad_cam", "grad_cam_pp", "xgrad_cam", "ablation_cam", "layer_cam", "fd_cam")
LIFT_CHEAP = ("grad_cam", "grad_cam_pp", "ablation_cam", "xgrad_cam:lift", "lift_cam", "xgrad_cam")
MASKED = ("score_cam", "group_cam")


@dataclass(frozen=True)
class Protocol:
    """What is measured and how; everything here decides numbers, and is kept in the rows' file.

    Methods are named as :func:`campanion.cams.methods.parse` reads them (``xgrad_cam:lift``).

    Attributes:
        curves: methods whose insertion and deletion are measured.
        compared: methods whose weights are compared with the Shapley values.
        orderings: of the Shapley reference (exact, without sampling, for a linear head); 0: no reference.
        antithetic: each of half of these orderings is used reversed too.
        step: of insertion and deletion, as a fraction of the pixels; 1/28 is FD-CAM's 3.6 %, 1792 of 224 x 224 pixels.
        baseline: of insertion, see :func:`campanion.metrics.insertion_deletion`.
        seed: of the order of the images and of the orderings of channels.
        precision: of the masked images' forwards, see :func:`campanion.inference.fast`.
        confidence: the precision of the three forwards behind IIC, AD and ADD, where it is another. They are few, and
            bfloat16 moves a single image by up to 12 points of ADD.
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
    antithetic: bool = False
    confidence: str | None = "float32"


def named(protocol: Protocol) -> dict[str, object]:
    """All of a protocol that decides numbers, as its rows keep it; what is younger than the first committed rows only
    where it makes a difference: rows that name no ``confidence`` have IIC, AD and ADD in ``precision``.
    """
    usual = {"antithetic": (False,), "confidence": (None, protocol.precision)}
    return {name: value for name, value in asdict(protocol).items() if value not in usual.get(name, ())}


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
    "cams": Protocol(),
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
    # LIFT-CAM Table 2 at the last pooling, the layer of FD-CAM's demo; LIFT-CAM's own is the ReLU before it
    "lift_pool5": Protocol(curves=(), compared=(*LIFT_METHODS, "xgrad_cam"), layer=LAST_POOLING),
    # What the authors' repository has beside the paper's six, on the same images
    "lift_extra": Protocol(curves=(), compared=LIFT_EXTRA),
    # For a network whose forwards are dear (VGG16): the same tables in pieces, each over as many images as there is
    # time for. FD-CAM Tables I, III and IV; what Table I has beside; LIFT-CAM Tables 2, 3 and 5; what they have beside;
    # Table 4
    "fd_tables": Protocol(curves=(*FD_CHEAP, *(m for m in FD_ABLATION if m != "fd_cam")), compared=(), orderings=0),
    "fd_masked": Protocol(curves=MASKED, compared=(), orderings=0),
    "fd_tables_pool5": Protocol(curves=FD_CHEAP, compared=(), orderings=0, layer=LAST_POOLING),
    "lift_weights": Protocol(curves=(), compared=LIFT_CHEAP, orderings=1_000, antithetic=True),
    "lift_10k": Protocol(curves=(), compared=LIFT_CHEAP),
    "lift_masked": Protocol(
        curves=("score_cam",), compared=("score_cam",), orderings=1_000, antithetic=True, step=0.025, baseline="zero"
    ),
    "lift_steps": Protocol(
        curves=tuple(m for m in LIFT_METHODS if m != "score_cam"), compared=(), orderings=0, step=0.025, baseline="zero"
    ),
    # LIFT-CAM Table 4 alone: binary masks without blur, 2.5 % a step
    "lift_curves": Protocol(curves=LIFT_METHODS, compared=(), orderings=0, step=0.025, baseline="zero"),
}

#: Protocols whose rows hold what LIFT-CAM's Tables 2, 3 and 5 need, in order of preference.
LIFT_ROWS = ("lift", "cams")
