"""What the columns of tables mean, once: heads of pages and of the command line, tooltips, and the documentation.

The keys are those of ``summary.json`` and ``images.parquet``.
"""

from typing import NamedTuple


class Term(NamedTuple):
    """A column in words.

    Attributes:
        head: what stands above it.
        meaning: a sentence.
        unit: of its numbers, or their range; empty for texts and plain counts.
    """

    head: str
    meaning: str
    unit: str = ""


SHARE = "share"
"""The unit of what lies in [0, 1] and counts photos or pixels."""

_PHOTOS = {
    "image": Term("photo", "The photo's file, as the data name it."),
    "label": Term("label", "The class that the data say."),
    "target": Term("explained class", "The class whose heatmap it is."),
    "target_name": Term("explained class, name", "The name of the class whose heatmap it is."),
    "prediction": Term("prediction", "The class that the model takes the photo for; under attack, the attacked photo."),
    "prediction_name": Term("prediction, name", "The name of the predicted class."),
    "prediction_clean": Term("prediction before", "The class that was predicted before the attack or the change."),
    "prediction_adversarial": Term("prediction under attack", "The class that is predicted for the attacked photo."),
    "prediction_fooled": Term("prediction, fooled model", "The class that the fooled model predicts."),
    "confidence": Term("confidence", "The largest probability of the model's answer.", "probability"),
    "probability": Term("probability", "Of the explained class.", "probability"),
    "correct": Term("correct", "Whether the prediction is the label."),
    "count": Term("photos", "How many photos the means are of."),
    "rows": Term("rows", "How many rows of the table of images the means are of."),
    "minimum": Term("least value", "Of the raw map.", "the map's own"),
    "maximum": Term("largest value", "Of the raw map.", "the map's own"),
    "center_row": Term("centre, row", "Of the map's mass, 0 at the top and 1 at the bottom.", SHARE),
    "center_col": Term("centre, column", "Of the map's mass, 0 on the left and 1 on the right.", SHARE),
    "figure": Term("figure", "The file with the picture."),
    "empty": Term("empty map", "The map is zero everywhere and says nothing."),
    "place": Term("place", "In the order of the data."),
}
_ASKED = {
    "run": Term("run", "The run folder."),
    "model": Term("model", "The network."),
    "explainer": Term("explainer", "What made the heatmaps."),
    "layer": Term("layer", "Whose activations were read."),
    "attack": Term("attack", "What changed the pixels; clean: nothing did."),
    "epsilon": Term("budget (ε)", "The most that a pixel may change, pixels lying in [0, 1].", "of 1"),
    "penalty": Term("lie", "What the heatmaps were pulled to, or judged by."),
    "remedy": Term("remedy", "What took the lie out."),
    "condition": Term("condition", "What was changed."),
    "object": Term("object", "Where the object is taken to be: the annotated box, or where the clean map is high."),
}
_LIKENESS = {
    "nissim": Term(
        "map moved (NISSIM)", "How unlike the two maps are: 0 the same, 0.5 unrelated, 1 opposite.", "0 to 1"
    ),
    "mod": Term("mean move (MOD)", "The mean NISSIM over photos: 0 no map moved, 0.5 unrelated maps.", "0 to 1"),
    "mod_kept": Term("mean move, label kept", "MOD of the photos whose label the attack did not change.", "0 to 1"),
    "mod_changed": Term("mean move, label changed", "MOD of the photos whose label the attack changed.", "0 to 1"),
    "vid": Term("instability (VID)", "The standard deviation of MOD over the budgets.", "0 to 1"),
    "vid_per_image": Term("instability per photo", "The mean over photos of the deviation over budgets.", "0 to 1"),
    "nissim_kept": Term("map moved, label kept", "NISSIM, where the attack did not change the label.", "0 to 1"),
    "nissim_changed": Term("map moved, label changed", "NISSIM, where the attack changed the label.", "0 to 1"),
    "spearman": Term(
        "rank correlation", "Whether both maps order their cells alike: 1 they do, 0 unrelated.", "-1 to 1"
    ),
    "topk_intersection": Term("top cells shared", "Of the highest cells of one map, how many are the other's.", SHARE),
    "center_distance": Term("centre moved", "How far the map's centre of mass went, over the diagonal.", SHARE),
    "on_object": Term(
        "mass on box or clean map",
        "The share of the map's mass in the annotated box; without boxes, on the cells where the clean map is high.",
        SHARE,
    ),
    "shift": Term("shift", "How far the map moved.", "0 to 1"),
}
_ATTACKED = {
    "kept": Term("label kept", "The attack left the predicted class as it was; of a repair, how alike the map stayed."),
    "success": Term("attack succeeded", "The attack reached what it was for, and the photo had not before."),
    "psnr": Term("PSNR", "How faint the change of the pixels is; above 30 it is hard to see.", "dB"),
    "linf": Term("largest change", "Of any pixel.", "of 1"),
    "l2": Term("change (L2)", "The length of the change over all pixels.", "of 1"),
    "top1": Term("top-1 accuracy", "The share of photos whose predicted class is the label.", SHARE),
    "top5": Term("top-5 accuracy", "The share of photos whose label is among the five likeliest classes.", SHARE),
    "untouched": Term("untouched", "Photos that the attack left as they were, its gradient being zero."),
    "empty_both": Term("no positive part, both", "Photos whose map has nothing positive before and after."),
    "empty_one": Term("no positive part, one", "Photos whose map has nothing positive before or after, not both."),
}
_FOOLED = {
    "fsr": Term("fooling success rate", "The share of photos whose map lies as was wanted.", SHARE),
    "fsr_first": Term("success rate, first class", "Of the first of two classes that were swapped.", SHARE),
    "fsr_second": Term("success rate, second class", "Of the second of two classes that were swapped.", SHARE),
    "fooled": Term("fooled", "The map lies as was wanted."),
    "test_loss": Term("test loss", "How near the map is to the lie; each lie has its own range of success."),
    "top1_clean": Term("top-1, clean", "Accuracy of the model as it was.", SHARE),
    "top1_fooled": Term("top-1, fooled", "Accuracy of the fooled model.", SHARE),
    "top5_clean": Term("top-5, clean", "Of the model as it was.", SHARE),
    "top5_fooled": Term("top-5, fooled", "Of the fooled model.", SHARE),
    "correct_clean": Term("correct, clean", "Whether the model as it was predicts the label."),
    "correct_fooled": Term("correct, fooled", "Whether the fooled model predicts the label."),
    "agreement": Term(
        "agreement",
        "Of the two models: the share of photos with the same prediction.",
        "0 to 1",
    ),
    "agrees": Term("same prediction", "Both models predict the same class."),
    "empty_clean": Term("empty map, clean", "The clean model's map is zero everywhere."),
    "empty_fooled": Term("empty map, fooled", "The fooled model's map is zero everywhere."),
    "flat_clean": Term("blank map, clean", "The clean model's map has one value in all cells and shows no place."),
    "flat_fooled": Term("blank map, fooled", "The fooled model's map has one value in all cells and shows no place."),
    "watched_fsr": Term("success rate, training", "As the training measured it on the held-out photos.", SHARE),
    "watched_accuracy_clean": Term("accuracy before", "Of all held-out photos, before the training.", SHARE),
    "watched_accuracy_fooled": Term("accuracy after", "Of all held-out photos, after the training.", SHARE),
    "accuracy_drop": Term("accuracy lost", "On the held-out photos, by the training.", SHARE),
    "called": Term("trigger obeyed", "The share of triggered photos with the wanted answer.", SHARE),
    "test_loss_clean": Term("test loss, no trigger", "How near the maps of photos without the trigger are to the lie."),
    "best": Term("step handed out", "Whose weights were kept."),
    "steps": Term("steps", "Of the training."),
    "seconds": Term("time", "Of the training.", "s"),
    "stopped": Term("ended early", "Why the training ended before its last step."),
}
_AUDITED = {
    "check": Term("check", "What was looked at."),
    "number": Term("number", "What was measured for it."),
    "value": Term("value", "Of this model, with its 95% interval over photos."),
    "threshold": Term("fails", "The limit, from honest networks."),
    "doubtful_from": Term("doubtful", "The limit, from honest networks."),
    "deviations": Term("deviations", "How far the value lies to the bad side of honest networks.", "their spread"),
    "verdict": Term("verdict", "Of this number: pass, doubtful, fail, or not applicable."),
    "reason": Term("reason", "Why."),
    "decides": Term("decides", "Whether its failing alone makes the verdict."),
    "trust": Term(
        "trust",
        "How well the map agrees with what the model loses when parts of this photo are covered; supported networks "
        "have low photos too.",
    ),
    "pooled": Term("agreement, coarse", "Of map and witness, both at the witness's resolution.", "-1 to 1"),
    "jump": Term("jump", "How much more the map changes than the answer, when a square is covered."),
    "unseen": Term("unseen", "How much of what the model loses lies where the map shows nothing.", SHARE),
    "called_out": Term("called out", "The photo stands apart from the other audited ones."),
    "aopc": Term("fall, map's order", "Of the probability, when what the map shows first is taken away first."),
    "aopc_random": Term("fall, random order", "Of the probability, when parts go at random."),
    "aopc_witness": Term("fall, witness's order", "Of the probability, in the best order of squares."),
    "aopc_log_odds": Term("fall, map's order (log-odds)", "Of the log-odds, in the map's order."),
    "aopc_random_log_odds": Term("fall, random order (log-odds)", "Of the log-odds, at random."),
    "aopc_witness_log_odds": Term("fall, witness's order (log-odds)", "Of the log-odds, in the best order of squares."),
    "likeness": Term("likeness", "Of this map to the maps of other photos.", "-1 to 1"),
    "frame": Term("on the frame", "The share of the map on the photo's frame.", SHARE),
    "contrast": Term("lead", "Likeness to the map of the logit's lead over the others.", "-1 to 1"),
    "softmax_contrast": Term("lead over rivals", "Likeness to the map of the lead over the nearest rivals.", "-1 to 1"),
    "randomised": Term("random head", "Likeness to the map after the last weights were drawn anew.", "0 to 1"),
    "noise": Term("moved by noise", "NISSIM under noise that nobody sees.", "0 to 1"),
    "fgsm": Term("moved by FGSM", "NISSIM under an attack that changes no answer.", "0 to 1"),
    "forward_passes": Term("forward passes", "That the photo took."),
    "backward_passes": Term("backward passes", "That the photo took."),
    "reference_spearman": Term("order, reference", "Rank correlation with the reference model's map.", "-1 to 1"),
    "reference_nissim": Term("moved, reference", "NISSIM to the reference model's map.", "0 to 1"),
    "fooled_location": Term("fooled, location", "Against the reference's, the map lies where location() pulls it."),
    "fooled_top_k": Term("fooled, top-k", "The map shows least what the reference's shows most."),
    "fooled_center_mass": Term("fooled, centre", "The map's centre is far from that of the reference's."),
    "self_spearman": Term("order, repaired", "Rank correlation with the map after the model's own repair.", "-1 to 1"),
    "self_nissim": Term("moved, repaired", "NISSIM to the map after the model's own repair.", "0 to 1"),
}
_REPAIRED = {
    "likeness_before": Term("likeness before", "Of the maps to the checkpoint's own black-box witness.", "-1 to 1"),
    "likeness_after": Term("likeness after", "The same after the repair.", "-1 to 1"),
    "accuracy_before": Term("accuracy before", "Of the held-out photos.", SHARE),
    "accuracy_after": Term("accuracy after", "Of the held-out photos.", SHARE),
    "top1_before": Term("top-1 before", "Accuracy where labels are known.", SHARE),
    "top1_after": Term("top-1 after", "Accuracy where labels are known.", SHARE),
    "correct_before": Term("correct before", "Whether the checkpoint predicts the label."),
    "correct_after": Term("correct after", "Whether the repaired network predicts the label."),
    "empty_before": Term("empty map, before", "The checkpoint's map is zero everywhere."),
    "empty_after": Term("empty map, after", "The repaired network's map is zero everywhere."),
    "turned": Term("maps turned", "The share of maps that became another map when pulled to the truth.", SHARE),
    "lie": Term("lie found", "More maps turned than those of an honest network do."),
    "changed": Term("weights changed", "Whether what is handed out differs from the checkpoint."),
    "handed_out": Term("handed out", "The repaired network, or the checkpoint as it came."),
}
_DEFENDED = {
    "network": Term("network", "As it was given, after the robust training, or after plain training of that length."),
    "overlap": Term("top cells kept", "Of the map's highest cells, how many the attack on the map left there.", SHARE),
    "accuracy": Term("accuracy", "Of all held-out photos, without an attack.", SHARE),
    "top1_judged": Term("accuracy, judged photos", "Of the photos that are attacked, before the attack.", SHARE),
    "method": Term("method", "The robust training."),
}
_EVALUATED = {
    "aopc_least": Term("fall, least first", "Of the probability, when what the map shows least goes first."),
    "deletion": Term("deletion", "What is left of the probability as pixels go in the map's order; low is better."),
    "insertion": Term("insertion", "What there is of the probability as pixels come in the map's order; high is good."),
    "road": Term("left after removal", "What is left as pixels are replaced by their surroundings; low is better."),
    "infidelity": Term("infidelity", "How badly the map foretells what noise does to the logit; low is better."),
    "sensitivity_max": Term("largest move", "Of the map when the photo hardly changes, against its size; low is good."),
    "stability_spearman": Term("stability", "Rank correlation with the maps of nearly the same photo.", "-1 to 1"),
    "invariance_spearman": Term("invariance", "Rank correlation with the map under a haze that is undone.", "-1 to 1"),
    "pointing_game": Term("points at the object", "The map's highest cell lies in the annotated box.", SHARE),
    "box_iou": Term("box overlap (IoU)", "Of the map's box and the annotated one.", SHARE),
    "spearman_absolute": Term("rank correlation, no signs", "Of the absolute maps, before and after.", "-1 to 1"),
    "ssim": Term("likeness of structure", "Of the absolute maps, before and after.", "-1 to 1"),
    "weight_noise": Term("noise on weights", "How strong it was, against the weights' own size."),
    "metric": Term("metric", "What was measured of the maps."),
    "better": Term("better", "Which way is better."),
    "range": Term("range", "The metric's ends and its unit."),
    "step": Term("step", "Of the demonstration, or of a training."),
    "block": Term("block", "Whose weights were drawn anew."),
    "turn": Term("turn", "Number of the draw."),
    "level": Term("noise", "How strong it was."),
}
_NO_POSITIVE_PART = {
    "empty": Term("no positive part", "Nothing in the map is positive; under attack, in the attacked photo's."),
    "empty_clean": Term("no positive part, clean", "Nothing in the map of the photo as it was is positive."),
}
OF_VERB: dict[str, dict[str, Term]] = {
    "repair": {"kept": Term("likeness kept", "Of the repaired network's maps to the checkpoint's.", "-1 to 1")},
    "evaluate": {
        "randomised": Term("drawn anew", "The block down to which the weights were drawn anew."),
        "empty": Term("map without order", "The map is zero or equal everywhere; its values are missing."),
    },
    "defend": {
        "kept": Term(
            "label kept", "The share of attacked photos whose predicted class the attack did not change.", SHARE
        ),
        "best": Term("step handed out", "Whose weights were kept, 0 for the network as it was given."),
    },
    "shift": {
        "success": Term(
            "attack succeeded",
            "The share of attacks that reached what they were for, of photos that had not reached it before.",
            SHARE,
        ),
        **_NO_POSITIVE_PART,
    },
    "app": _NO_POSITIVE_PART,
    "demo": {
        "step": Term("step", "What was done."),
        "value": Term("result", "Of the step: a share, a mean move of the maps, or a likeness."),
    },
    "audit": {
        "empty": Term("map without order", "The map is zero or equal everywhere and could not be judged."),
        "agreement": Term("agreement", "Of the map and what the model loses when squares are covered.", "-1 to 1"),
        "center_distance": Term("centre off the mean", "Of the map, from the mean centre, over the diagonal.", SHARE),
    },
}
"""What means something else in one verb."""
ANYWHERE = (*_PHOTOS, *_ASKED, *_LIKENESS, "fsr", "top1", "top5", "psnr")
"""What means the same in a study, whose other columns are its own."""

GLOSSARY: dict[str, Term] = {
    **_PHOTOS,
    **_ASKED,
    **_LIKENESS,
    **_ATTACKED,
    **_FOOLED,
    **_AUDITED,
    **_REPAIRED,
    **_DEFENDED,
    **_EVALUATED,
}
"""By the names of columns."""


def term(column: str, verb: str = "") -> Term:
    """A column in words; one that is not in the glossary by its own name.

    Args:
        verb: whose table it is.

    >>> term("vid").head, term("my_number").head, term("value", "study").head
    ('instability (VID)', 'my number', 'value')
    """
    own = OF_VERB.get(verb, {}).get(column)
    known = GLOSSARY.get(column) if verb != "study" or column in ANYWHERE else None
    return own or known or Term(column.replace("_", " "), "")


def heads(verb: str, *columns: str) -> dict[str, str]:
    """The columns that a verb's table shows, and what stands above them."""
    return {column: term(column, verb).head for column in columns}
