"""The sentences themselves, notebook by notebook; :mod:`campanion.report.contests` has the words they are made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from statistics import median

from campanion import paths
from campanion.report import networks
from campanion.report.contests import SENTENCES, absent, contest, joined, mean, name, rivals, run_name, runs, says, span

Results = Mapping[str, Mapping]
FD_TABLE2 = ("grad_cam", "grad_cam_pp", "xgrad_cam", "score_cam", "ablation_cam", "layer_cam", "group_cam")


@says("00_start_here")
def _(results: Results) -> str:
    return "A map is a weighted sum of channels, and the methods differ in the weights. Here is how to read the pages."


@says("10_lfi_fig2_architecture")
def _(results: Results) -> str:
    return "The network is built live, step by step with its shapes; the paper's equations 5 to 10 are checked on it."


def _trained(results: Results, key: str) -> str:
    if key not in results:
        return "Not run: there is no result of these trainings."
    parts = []
    for run in runs(results, key):
        found = rivals(run, "lfi_cam", "top1_error")
        for other, (gap, low, high) in found.items():
            if other in ("plain", "abn"):
                word = "lower" if low > 0 else "higher" if high < 0 else "not surely different"
                by = f" by {abs(gap):.1f} points" if word != "not surely different" else ""
                against = "the plain network's" if other == "plain" else "ABN's"
                parts.append((f"{word}{by} than {against}" if by else f"not surely different from {against}", run))
    if not parts:
        return "Undecided: no pair of networks has enough training runs for an interval."
    said = dict.fromkeys(text for text, _ in parts)
    listed = [f"{text} on {joined([run_name(r) for t, r in parts if t == text])}" for text in said]
    return f"With these short training runs LFI-CAM's error is {'; '.join(listed)}."


@says("11_lfi_table1_cifar")
def _(results: Results) -> str:
    return _trained(results, "11_lfi_table1_cifar")


@says("12_lfi_table2_stl10_catdog")
def _(results: Results) -> str:
    return _trained(results, "12_lfi_table2_stl10_catdog")


@says("13_lfi_table3_imagenet_size")
def _(results: Results) -> str:
    from campanion.report.papers import published

    printed = published("lfi", "table3")
    printed = printed[printed.metric == "parameters"]
    counted = {r["model"]: r for r in runs(results, "13_lfi_table3_imagenet_size") if r["data"] == "imagenet"}
    same = [
        abs(mean(counted[row.model], row.method, "parameters") - row.number) < 0.006
        for row in printed.itertuples()
        if row.model in counted
    ]
    return (
        f"{sum(same)} of the {len(same)} printed sizes are the counted ones; the table mixes three versions of the "
        "LFI-CAM network. Its errors need ImageNet's training images and were not run."
    )


@says("14_lfi_fig1_fig6_stability")
def _(results: Results) -> str:
    parts = [
        f"{mean(run, 'lfi_cam', 'iou'):.0f} % (LFI-CAM) and {mean(run, 'abn', 'iou'):.0f} % (ABN) on {run_name(run)}"
        for run in runs(results, "14_lfi_fig1_fig6_stability")
        if {"lfi_cam", "abn"} <= {r["method"] for r in run["rows"] if r["metric"] == "iou"}
    ]
    told = "; ".join(parts)
    return f"Hot areas of networks trained with other learning rates overlap by {told}. The paper: 60 and 30 %."


@says("15_lfi_fig3_fig4_gallery")
def _(results: Results) -> str:
    return contest(
        [r for r in runs(results, "15_lfi_fig3_fig4_gallery") if any(x["method"] == "lfi_cam" for x in r["rows"])],
        "lfi_cam",
        "overall",
    )


@says("16_lfi_fig5_fin_effect")
def _(results: Results) -> str:
    parts = []
    for run in runs(results, "16_lfi_fig5_fin_effect"):
        errors = {
            kind: mean(run, f"lfi-paper{end}", "top1_error")
            for kind, end in (("trained", ""), ("frozen", "-finfrozen"), ("absent", "-finnone"))
            if any(r["method"] == f"lfi-paper{end}" for r in run["rows"])
        }
        told = joined([f"{kind} {value:.1f} %" for kind, value in errors.items()])
        parts.append(f"error on {run_name(run)} with the FIN {told}")
    told = "; ".join(parts)
    return f"{told[0].upper()}{told[1:]}."


@says("20_fd_fig1_fig6_discriminability")
def _(results: Results) -> str:
    key = "20_fd_fig1_fig6_discriminability"
    text = contest(runs(results, key), "fd_cam", "gap", FD_TABLE2)
    grid = results.get("20_grid_pointing")
    if grid:
        shares = [
            f"{mean(r, 'fd_cam', 'grid_energy'):.0f} % of FD-CAM's energy "
            f"({mean(r, 'grad_cam', 'grid_energy'):.0f} % of Grad-CAM's) on {networks.name(r['model'])}"
            for r in grid["runs"]
        ]
        text += f" Of two photographs side by side, the one asked about has {joined(shares)}."
    return text + absent(runs(results, key))


@says("21_fd_table1_faithfulness")
def _(results: Results) -> str:
    listed = runs(results, "21_fd_table1_faithfulness")
    return contest(listed, "fd_cam", "overall") + absent(listed)


@says("22_fd_table2_pointing_game")
def _(results: Results) -> str:
    listed = runs(results, "22_fd_table2_pointing_game")
    text = contest(listed, "fd_cam", "pointing_accuracy", FD_TABLE2)
    centre = [mean(r, "centre point", "pointing_accuracy") for r in listed]
    return f"{text} The centre of the image alone scores {span(centre, 1)} %.{absent(listed)}"


@says("23_fd_table3_grouped_switching")
def _(results: Results) -> str:
    listed = runs(results, "23_fd_table3_grouped_switching")
    parts = []
    for run in listed:
        groups = rivals(run, "fd_cam_g_off", "overall")["fd_cam_ng_off"]
        switch_on = rivals(run, "fd_cam", "overall")["fd_cam_g_off"]
        parts.append(f"{run_name(run)}: groups {_signed(groups)}, switch-on score {_signed(switch_on)}")
    return f"Change of insertion - deletion on {'; on '.join(parts)}.{absent(listed)}"


@says("24_fd_table4_weight_combination")
def _(results: Results) -> str:
    listed = runs(results, "24_fd_table4_weight_combination")
    return f"{contest(listed, 'fd_cam', 'overall')}{absent(listed)}"


@says("25_fd_fig3_channel_groups")
def _(results: Results) -> str:
    listed = runs(results, "25_fd_fig3_channel_groups")
    row = "fd_cam:percentile=5,percentile_of=channel"
    inside, outside = ([mean(r, row, metric) for r in listed] for metric in ("within", "between"))
    on = joined([networks.name(r["model"]) for r in listed])
    return (
        f"In part: channels of one group have a cosine of {span(inside, 2)}, others of {span(outside, 2)} ({on}): "
        f"alike, but not twins.{absent(listed)}"
    )


@says("26_fd_fig4_gallery")
def _(results: Results) -> str:
    listed = runs(results, "26_fd_fig4_gallery")
    n = joined([str(r["provenance"]["n"]) for r in listed])
    return f"Best insertion - deletion on the {n} photographs? {contest(listed, 'fd_cam', 'overall')}{absent(listed)}"


@says("27_fd_fig5_curves")
def _(results: Results) -> str:
    listed = runs(results, "27_fd_fig5_curves")
    shares = [f"{mean(r, 'fd_cam', 'best_overall'):.0f} % on {networks.name(r['model'])}" for r in listed]
    return (
        f"FD-CAM has the best insertion - deletion of eight methods for {joined(shares)} of the images; "
        f"by chance it would be 12.5 %.{absent(listed)}"
    )


@says("30_lift_fig1_fig2_idea")
def _(results: Results) -> str:
    cosines: dict[str, list[float]] = {networks.LINEAR: [], networks.HIDDEN: []}
    for run in runs(results, "32_lift_table2_shap_similarity"):
        cosines.setdefault(networks.head(run["model"]), []).append(mean(run, "lift_cam", "shap_cosine"))
    return (
        f"Yes: one backward pass gives the Shapley values exactly behind a linear head (cosine "
        f"{span(cosines[networks.LINEAR], 3)}) and closely behind hidden layers ({span(cosines[networks.HIDDEN], 3)})."
    )


@says("31_lift_table1_shap_orderings")
def _(results: Results) -> str:
    listed = runs(results, "31_lift_table1_shap_orderings")
    sure = [r for r in listed if all(rivals(r, "shap_cam_100", m)["shap_cam_10"][1] > 0 for m in ("iic", "ad", "add"))]
    more = f"{len(sure)} of {len(listed)} networks and data sets gain in all three metrics from 10 to 100 orderings."
    return f"{more} {_ad(listed, 'shap_cam_100')}{absent(listed)}"


@says("32_lift_table2_shap_similarity")
def _(results: Results) -> str:
    listed = runs(results, "32_lift_table2_shap_similarity")
    cosines = [mean(r, "lift_cam", "shap_cosine") for r in listed]
    hidden = [r for r in listed if networks.head(r["model"]) == networks.HIDDEN]
    return (
        f"LIFT-CAM's weights have a cosine of {span(cosines, 3)} with the SHAP values. Closest of six, where the head "
        f"has hidden layers? {contest(hidden, 'lift_cam', 'shap_cosine')}{absent(listed)}"
    )


@says("33_lift_table3_faithfulness")
def _(results: Results) -> str:
    listed = runs(results, "33_lift_table3_faithfulness")
    return f"{_ad(listed, 'lift_cam')}{absent(listed)}"


def _ad(listed: list[Mapping], method: str) -> str:
    return f"Lowest average drop? {contest(listed, method, 'ad')}"


@says("34_lift_table4_insertion_deletion")
def _(results: Results) -> str:
    listed = runs(results, "34_lift_table4_insertion_deletion")
    return f"Highest insertion AUC? {contest(listed, 'lift_cam', 'insertion')}{absent(listed)}"


@says("35_lift_table5_energy_pointing_game")
def _(results: Results) -> str:
    listed = runs(results, "35_lift_table5_energy_pointing_game")
    return contest(listed, "lift_cam", "energy_proportion") + absent(listed)


@says("36_lift_fig3_gallery")
def _(results: Results) -> str:
    listed = runs(results, "36_lift_fig3_gallery")
    likeness = [mean(r, "lift_cam", "likeness") for r in listed]
    noise = [mean(r, "smooth_grad", "variation") / mean(r, "lift_cam", "variation") for r in listed]
    return (
        f"LIFT-CAM's maps correlate at {span(likeness, 3)} with those of the SHAP values, and SmoothGrad's vary "
        f"{span(noise)} times as much from pixel to pixel.{absent(listed)}"
    )


@says("37_lift_table6_fig4_vqa")
def _(results: Results) -> str:
    listed = results["37_lift_table6_fig4_vqa"]["runs"]
    real = [r for r in listed if r["data"] != "scenes"]
    text = f"Lower average drop than Grad-CAM? {contest(real or listed, 'lift_cam', 'ad', ('grad_cam',))}"
    return text if real else f"Open: VQA v2 was not run. {text}"


@says("40_explore")
def _(results: Results) -> str:
    return "Choose an image, a network, a class and methods; maps, channels and curves follow, from one forward pass."


@says("41_beyond_speed")
def _(results: Results) -> str:
    entries = json.loads((paths.root() / "benchmarks" / "results.json").read_text("utf-8"))["methods"].values()
    ratios: dict[str, list[float]] = {}
    for entry in entries:
        ours = entry["sides"].get("campanion")
        for library, theirs in entry["sides"].items():
            if ours is not None and library != "campanion":
                ratios.setdefault(library, []).append(theirs["cpu"]["median"] / ours["cpu"]["median"])
    if "authors" in ratios:
        ratios["the authors' code"] = ratios.pop("authors")
    told = [f"{median(each):.1f} times for {library}" for library, each in ratios.items()]
    return f"The time of other libraries over ours, in the middle of all methods and networks: {joined(told)}."


@says("42_beyond_sanity_checks")
def _(results: Results) -> str:
    listed = runs(results, "42_beyond_sanity_checks")
    methods = dict.fromkeys(r["method"] for run in listed for r in run["rows"] if r["metric"] == "rank_output")
    stay = {m: [mean(run, m, "rank_output") for run in listed] for m in methods}
    kept = [m for m, values in stay.items() if min(values) > 0.7]
    moved = [m for m, values in stay.items() if max(values) < 0.5]
    listed_kept = joined([f"{name(m)} (rank correlation {span(stay[m], 2)})" for m in kept])
    listed_moved = joined([name(m) for m in moved])
    return (
        f"With a random output layer these maps hardly change: {listed_kept or 'none'}; these do, with a rank "
        f"correlation below 0.5: {listed_moved or 'none'}."
    )


@says("98_findings")
def _(results: Results) -> str:
    return "What was found about the papers themselves, one paragraph and one picture each."


@says("99_scoreboard")
def _(results: Results) -> str:
    return "Every claim of the three papers with its answer, network by network."


def _signed(difference: tuple[float, float, float]) -> str:
    gap, low, high = difference
    if low <= 0 <= high:
        return f"{gap:+.3f} (interval includes 0)"
    return f"{gap:+.3f}"


def found(results: Results) -> dict[str, str]:
    """What was found of each paper, in two or three sentences, by the paper's name."""
    listed = runs(results, "32_lift_table2_shap_similarity")
    cosines = span([mean(r, "lift_cam", "shap_cosine") for r in listed], 3)
    drop = _beaten(runs(results, "33_lift_table3_faithfulness"), "lift_cam", "ad")
    fd_overall = _beaten(runs(results, "21_fd_table1_faithfulness"), "fd_cam", "overall")
    gaps = contest(runs(results, "20_fd_fig1_fig6_discriminability"), "fd_cam", "gap", FD_TABLE2)
    return {
        "LIFT-CAM": (
            f"Its weights have a cosine of {cosines} with the Shapley values, as claimed, and cost one backward pass. "
            f"The most faithful maps? {drop} another method has a surely lower average drop."
        ),
        "FD-CAM": (
            f"The best insertion - deletion of eight? {fd_overall} another is surely better. Two classes apart? {gaps}"
        ),
        "LFI-CAM": f"{SENTENCES['13_lfi_table3_imagenet_size'](results).partition(';')[0]}. What is its FIN worth? "
        f"{SENTENCES['16_lfi_fig5_fin_effect'](results)}",
    }


def _beaten(listed: list[Mapping], method: str, metric: str) -> str:
    worse = sum(any(high < 0 for _, _, high in rivals(run, method, metric).values()) for run in listed)
    return f"On {worse} of {len(listed)} networks and data sets"
