"""From result rows to the answers of claims: settings, groups of networks, means over networks."""

from __future__ import annotations

import numpy as np
import pytest
from campanion.report import networks
from campanion.report.answers import run_name
from campanion.report.claims import Claim, find_claim, load_claims
from campanion.report.evidence import NotThere, Run, comparisons, correlation
from campanion.report.rule import AGAINST, HOLDS, OPEN, SAME
from campanion.report.scoreboard import sentence, table
from campanion.report.verdicts import BY_EYE, HIDDEN, LINEAR, NOT_ALL, NOT_RUN, OTHER, OWN, verdict, verdicts

KEY = "21_fd_table1_faithfulness"
CLAIM = Claim(
    id="x", paper="fd", tables=(), place="Table I", sentence="A is best.", notebook=KEY, data=("imagenet", "voc2007"),
    own=({"network": "vgg16", "data": "imagenet"},), bound_from="paper", printed={}, margin={"overall": 0.02},
    test={"kind": "above", "methods": ["a"], "others": ["b", "c"], "metrics": ["overall"]},
)  # fmt: skip
AT = {1: (0.1, 0.3), -1: (-0.3, -0.1), 0: (-0.1, 0.1), "=": (0.0, 0.0), "~": (-0.01, 0.01)}


def run(signs=(), means=(), model="resnet18", data="imagenet-val", mode="full", metric="overall", **more) -> dict:
    """A run with differences a - b, a - c (1 above zero, -1 below, 0 across) and means (method, metric, low, high)."""
    rows = [
        {"method": m, "metric": k, "mean": (lo + hi) / 2, "low": lo, "high": hi, "n": 600} for m, k, lo, hi in means
    ]
    differences = [
        {
            "method": "a",
            "reference": r,
            "metric": metric,
            "mean": sum(AT[s]) / 2,
            "low": AT[s][0],
            "high": AT[s][1],
            "n": 700,
        }
        for r, s in zip("bcd", signs, strict=False)
    ]
    return {"model": model, "data": data, "mode": mode, "rows": rows, "differences": differences, **more}


def answer(*runs: dict, claim: Claim = CLAIM):
    return verdict(claim, {claim.notebook: {"runs": list(runs)}})


def test_only_the_papers_own_setting_is_reproduced_or_not():
    found = answer(run((1, 1), model="vgg16"), run((1, -1)), run((1, 1), model="voc_mlp", data="voc2007"))
    assert found.word == "reproduced"
    assert {g: a.word for g, a in found.groups.items()} == {
        OWN: "reproduced", HIDDEN: "carries over", LINEAR: "does not carry over"
    }  # fmt: skip
    assert answer(run((1, -1), model="vgg16")).word == "not reproduced"
    assert answer(run((1, 1), model="vgg16", data="voc2007")).word == NOT_RUN  # its network on other data
    assert answer(run((1, 0), model="vgg16")).word == OPEN
    assert answer(run((1, "~"), model="vgg16")).word == SAME


def test_a_training_run_that_started_from_imagenet_weights_says_so():
    def told(**settings) -> str:
        one = run((1, 1), data="cats-dogs", provenance={"settings": {"epochs": 5, **settings}})
        return run_name(one["model"], one["data"], Run.of(one).trained)

    assert told(name="short") == "ResNet-18 (Cat&Dog, 5 epochs)"
    assert told(name="fine_tune") == told(checkpoints={"cats-dogs_resnet18_abn_lr0.0005_seed0_fine_tune": ""})
    assert told(name="fine_tune") == "ResNet-18 (Cat&Dog, 5 epochs from ImageNet weights)"
    assert networks.name("cats-dogs_resnet18_abn_lr0.0005_seed0_fine_tune") == "ResNet-18, ABN, fine-tuned"


def test_what_does_not_count_is_not_run():
    assert answer().word == NOT_RUN
    assert answer(run((1, 1), model="vgg16", mode="quick")).word == NOT_RUN
    assert answer(run((1, 1), model="vgg16", data="coco")).word == NOT_RUN
    lacking = answer(run((1,), model="vgg16"))
    assert lacking.word == lacking.groups[OWN].answers[0].word == NOT_ALL  # it was run, without what the claim needs
    assert lacking.groups[OWN].answers[0].missing == "no a"
    rows = [("a", "overall", 0.1, 0.3), ("c", "deletion", 0.1, 0.3)]
    metric = answer(run((1,), rows, model="vgg16")).groups[OWN].answers[0].missing
    assert metric == "no insertion - deletion of c"  # the method is there, its number is not


def test_intervals_over_few_images_are_judged_by_students_t_as_they_were_made():
    claim = CLAIM.model_copy(update={"test": (*CLAIM.test, find_claim("lift_table2_above_09").test[0])})
    record = run((1, 1), [("lift_cam", "shap_cosine", 0.91, 0.95)])
    for n, freedom in ((15, 14), (99, 98), (100, np.inf)):
        for row in record["rows"] + record["differences"]:
            row["n"] = n
        assert [c.freedom for c in comparisons(claim, Run.of(record))] == [freedom] * 3


def test_networks_on_which_methods_coincide_have_no_say():
    found = answer(run(("=", 1)), run((1, 1), model="squeezenet1_1"))
    assert found.groups[LINEAR].word == "carries over"
    assert answer(run(("=", 1))).groups[LINEAR].word == SAME


def test_three_networks_answer_by_their_mean_and_say_where_a_fourth_may_lie():
    models = ("resnet18", "resnet34", "squeezenet1_1")
    group = answer(*(run((1, 1), model=m) for m in models)).groups[LINEAR]
    assert group.pooled
    assert group.word == "carries over"
    d = group.judgement.deciding
    assert (d.value, d.n, d.freedom) == (pytest.approx(0.2), 3, 2)
    low, high = group.predicted
    assert low <= d.low < d.high <= high
    one_against = answer(*(run((1, s), model=m) for s, m in zip((1, 1, -1), models, strict=True))).groups[LINEAR]
    assert one_against.word == OPEN  # no vote: the networks differ too much for a mean
    assert one_against.predicted[0] < 0 < one_against.predicted[1]
    two = answer(*(run((1, 1), model=m) for m in models[:2])).groups[LINEAR]
    assert (two.pooled, two.predicted) == (False, None)


def test_one_network_on_several_data_sets_is_one_network():
    runs = [run((1, 1), model="voc_mlp", data=d) for d in ("voc2007", "imagenet-val")]
    assert not answer(*runs, run((1, 1), model="imagenette_vgg")).groups[HIDDEN].pooled


def test_trainings_of_lfi_cam_count_with_their_epochs_and_seeds():
    claim = find_claim("lfi_table2_below_abn")
    rows = [("lfi_cam", "top1_error", 2.5, 2.7), ("abn", "top1_error", 3.0, 3.2)]
    short = run(means=rows, data="cats-dogs", provenance={"settings": {"epochs": 4}})
    full = run(means=rows, data="cats-dogs", provenance={"settings": {"epochs": 300}})
    assert answer(short, claim=claim).word == NOT_RUN
    assert answer(short, claim=claim).groups[OTHER].word == "carries over"
    assert answer(full, claim=claim).word == "reproduced"
    stable = find_claim("lfi_fig6_lfi_stable")
    same_seed = run(means=[("lfi_cam", "iou", 62, 66)], data="cifar10", model="resnet20")
    assert answer(same_seed, claim=stable).groups[OTHER].judgement is None
    own_seeds = {**same_seed, "extra": {"seeds": "own"}}
    assert answer(own_seeds, claim=stable).groups[OTHER].word == "carries over"


def test_lower_is_better_turns_differences_and_pairs_are_found_the_other_way_round():
    r = Run.of(run((1, -1), metric="deletion"))
    assert r.difference("a", "b", "deletion").value == pytest.approx(-0.2)
    back = r.difference("b", "a", "deletion")
    assert (back.value, back.low, back.high) == pytest.approx((0.2, 0.1, 0.3))
    with pytest.raises(NotThere, match="no a"):
        r.difference("a", "d", "deletion")


def test_without_pairs_two_independent_intervals_add_in_squares():
    r = Run.of(run(means=[("a", "overall", 0.4, 0.5), ("b", "overall", 0.1, 0.2)]))
    d = r.difference("a", "b", "overall")
    assert (d.value, d.high - d.low, d.same_images) == (pytest.approx(0.3), pytest.approx(0.1 * 2**0.5), True)


def test_the_correlation_of_comparisons_comes_from_the_variances_of_all_pairs():
    """Three methods with known covariance: a - b and a - c share a."""
    rng = np.random.default_rng(0)
    x = rng.multivariate_normal([0, 0, 0], [[1, 0.3, 0.1], [0.3, 2, 0.5], [0.1, 0.5, 1.5]], 4000)
    a, b, c = x.T
    differences = []
    for (m, u), (o, w) in [(("a", a), ("b", b)), (("a", a), ("c", c)), (("b", b), ("c", c))]:
        d = u - w
        half = 1.96 * d.std(ddof=1) / len(d) ** 0.5
        differences.append({"method": m, "reference": o, "metric": "overall", "mean": d.mean(), "low": d.mean() - half,
                            "high": d.mean() + half, "n": len(d)})  # fmt: skip
    r = Run.of({**run(), "differences": differences})
    matrix = correlation(r, comparisons(CLAIM, r))
    assert matrix[0, 1] == pytest.approx(np.corrcoef(a - b, a - c)[0, 1], abs=1e-6)
    r = Run.of({**run(), "differences": differences[:2]})
    assert correlation(r, comparisons(CLAIM, r))[0, 1] == 0.5


def test_the_power_stands_beside_what_one_cannot_tell():
    claim = find_claim("fd_table1_best_overall")
    others = ["grad_cam", "grad_cam_pp", "xgrad_cam", "score_cam", "ablation_cam", "layer_cam", "group_cam"]
    known = {"method": "fd_cam", "metric": "overall", "mean": 0.0, "low": -0.01, "high": 0.01, "n": 500}
    differences = [{**known, "reference": o} for o in others]
    found = answer({**run(), "differences": differences}, claim=claim).groups[LINEAR].answers[0]
    assert found.word == OPEN
    assert 0 < found.power < 0.5
    assert {c.printed for c in found.judgement.comparisons} >= {0.0044, 0.0293}  # 0.4533 - 0.4489 and - 0.4240
    assert found.judgement.deciding.as_printed in (True, False)


def test_sizes_are_compared_with_the_printed_ones_and_a_misprint_is_not_counted():
    claim = find_claim("lfi_table3_sizes")
    exact = {"resnet101": (42.513, 62.577, 62.039), "resnet50": (23.521, 43.585, 43.047)}

    def sized(model, sizes):
        names = ("plain", "abn", "lfi_cam")
        return run(
            means=[(m, "parameters", v, v) for m, v in zip(names, sizes, strict=True)], model=model, data="imagenet"
        )

    assert answer(*(sized(*e) for e in exact.items()), claim=claim).word == "reproduced"
    assert answer(sized("resnet101", (42.513, 62.577, 195.56)), claim=claim).word == "not reproduced"
    other = answer(sized("resnet20", exact["resnet101"]), claim=claim)
    assert "resnet20" in other.groups[OTHER].answers[0].missing


def test_times_are_compared_by_their_ratio():
    claim = find_claim("lift_sec21_faster_than_score_cam")
    for slow, word in ((2.0, HOLDS), (0.05, AGAINST)):
        rows = [
            ("lift_cam", "seconds_per_image", 0.009, 0.011),
            ("score_cam", "seconds_per_image", 0.9 * slow, 1.1 * slow),
        ]
        found = answer(run(means=rows), claim=claim).groups[LINEAR].answers[0]
        assert found.word == word
        assert found.judgement.deciding.value == pytest.approx(100 * slow)


def test_an_association_is_a_rank_correlation_over_methods():
    claim = find_claim("lift_table1_closer_better")
    methods = claim.test[0].methods
    good = [(m, k, i + 0.5, i + 1.5) for k in ("shap_cosine", "iic", "add") for i, m in enumerate(methods)]
    falling = [(m, "ad", 9.5 - i, 10.5 - i) for i, m in enumerate(methods)]  # a lower drop is better
    results = {claim.sources[0]: {"runs": [run(means=good + falling)]}}
    found = verdict(claim, results).groups[LINEAR].answers[0]
    assert found.word == HOLDS
    rising = [(m, "ad", i + 0.5, i + 1.5) for i, m in enumerate(methods)]
    results = {claim.sources[0]: {"runs": [run(means=good + rising)]}}
    assert verdict(claim, results).groups[LINEAR].answers[0].word == AGAINST


def test_ranks_of_means_over_different_images_are_not_compared():
    claim = find_claim("lift_table1_closer_better")
    rows = [(m, k, i + 0.5, i + 1.5) for k in ("shap_cosine", "iic", "ad", "add")
            for i, m in enumerate(claim.test[0].methods)]  # fmt: skip
    of_few = run(means=rows)
    for row in of_few["rows"]:
        row["n"] = 6 if row["method"] == "score_cam" else 200
    found = verdict(claim, {claim.sources[0]: {"runs": [of_few]}}).groups[LINEAR].answers[0]
    assert found.judgement is None
    assert "of Score-CAM on others' images" in found.missing


def test_the_n_of_a_rank_correlation_says_that_it_counts_methods():
    claim = find_claim("lift_table1_closer_better")
    rows = [(m, k, i + 0.5, i + 1.5) for k in ("shap_cosine", "iic", "ad", "add")
            for i, m in enumerate(claim.test[0].methods)]  # fmt: skip
    found = verdict(claim, {claim.sources[0]: {"runs": [run(means=rows)]}})
    assert '<td style="text-align:left">6 methods</td>' in table([found])
    assert "N = 6 methods" in sentence(found)


def test_results_of_several_notebooks_are_joined_by_network_and_data():
    claim = find_claim("lift_table1_closer_better")
    methods = claim.test[0].methods
    one, other = ([(m, k, i, i + 1) for k in names for i, m in enumerate(methods)]
                  for names in (("shap_cosine",), ("iic", "add", "ad")))  # fmt: skip
    apart = dict(zip(claim.sources, ({"runs": [run(means=one)]}, {"runs": [run(means=other)]}), strict=True))
    assert verdict(claim, apart).groups[LINEAR].answers[0].judgement is not None


def test_networks_in_data_can_be_joined_and_compared():
    joined = find_claim("lfi_better_maps_than_abn")
    lfi = run(
        means=[("lfi_cam", "overall", 0.29, 0.31), ("lfi_cam", "ad", 10, 12)],
        model="x_resnet20_lfi-paper_a",
        data="cifar10",
    )
    abn = run(means=[("abn", "overall", 0.10, 0.12), ("abn", "ad", 30, 32)], model="x_resnet20_abn_a", data="cifar10")
    assert answer(lfi, abn, claim=joined).groups[OTHER].word == "cannot tell"  # one training run of each network
    needed = answer(lfi, abn, claim=joined).groups[OTHER].judgement.comparisons
    assert [(round(c.value, 2), c.low) for c in needed] == [(0.19, None), (20.0, None)]
    across = find_claim("lift_sec34_farther_with_layers")
    exact, far = (
        run(means=[("lift_cam", "shap_cosine", v - 0.001, v)], model=m)
        for m, v in (("resnet18", 1.0), ("voc_mlp", 0.97))
    )
    assert answer(exact, far, claim=across).groups[OTHER].word == "carries over"
    assert answer(exact, claim=across).groups[OTHER].word == NOT_RUN


def test_images_without_a_number_are_shown_and_not_judged():
    assert answer(claim=find_claim("lift_fig3_pinpoints")).word == BY_EYE


def test_verdicts_keep_the_order_of_the_file():
    assert [v.claim.id for v in verdicts({})] == [c.id for c in load_claims()]


def test_methods_that_were_not_measured_on_the_same_images_are_not_compared():
    unlike = run((), [("a", "overall", 0.5, 0.6), ("b", "overall", 0.1, 0.2), ("c", "overall", 0.1, 0.2)])
    assert verdict(CLAIM, {KEY: {"runs": [unlike]}}).groups[LINEAR].word == "carries over"
    unlike["rows"][1]["n"] = 6
    (answer,) = verdict(CLAIM, {KEY: {"runs": [unlike]}}).groups[LINEAR].answers
    assert (answer.word, answer.missing) == (NOT_ALL, "no insertion - deletion of a and b on the same images")


def test_a_claim_of_closeness_holds_of_methods_that_are_the_same():
    near = CLAIM.model_copy(update={"test": (CLAIM.test[0].model_copy(update={"kind": "close", "within": 0.02}),)})
    for signs in (("=", "="), ("~", "~")):
        assert verdict(near, {KEY: {"runs": [run(signs)]}}).groups[LINEAR].word == "carries over"
    (answer,) = verdict(CLAIM, {KEY: {"runs": [run(("=", "="))]}}).groups[LINEAR].answers
    assert answer.word == SAME


def test_the_epochs_of_runs_that_are_joined_are_those_of_the_one_that_was_trained():
    sizes, trained = (run((1, 1), provenance={"settings": settings}) for settings in ({"page": 1}, {"epochs": 90}))
    assert Run.of(sizes, trained).epochs == Run.of(trained, sizes).epochs == 90
