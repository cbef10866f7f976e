"""What is said of long work beforehand: as many passes as are then made."""

import time
from dataclasses import replace

import pytest
import torch

import heatproof as hp
from heatproof.commands import explain
from heatproof.commands.compare import run as compare
from heatproof.commands.compare.measure import compared
from heatproof.commands.defend.run import Defend
from heatproof.commands.defend.run import effort as of_defence
from heatproof.commands.effort import FEWEST, Effort, noise, of_training, rehearsal
from heatproof.commands.evaluate import run as evaluate
from heatproof.commands.evaluate.measure import measure as evaluated
from heatproof.commands.fool.run import Fool
from heatproof.commands.fool.run import effort as of_fooling
from heatproof.commands.passes import counting
from heatproof.commands.repair.run import Repair
from heatproof.commands.repair.run import effort as of_repair
from heatproof.commands.shift import run as shift
from heatproof.data.batches import Batch
from heatproof.metrics.faithfulness import AOPC
from heatproof.metrics.randomisation import Randomisation
from heatproof.models.hardware import Hardware
from heatproof.repairs.remedies import ReBN, Truth
from heatproof.repairs.witness import questions

HERE = Hardware("cpu")
COUNT = 8


@pytest.fixture(scope="module")
def demo() -> hp.Classifier:
    return hp.load("demo")


def test_of_shift(demo: hp.Classifier) -> None:
    asked = hp.Shift(attacks=(hp.FGSM(), hp.PGD(steps=3)), epsilons=(0.01, 0.05))
    told = shift.effort(asked, [demo, demo], COUNT, HERE)
    assert told is not None
    with counting(demo) as passes:
        rows = list(shift.measure(asked, "demo", demo, noise(demo, COUNT), HERE))
    assert rows
    assert told.passes == 2 * (passes.forward + passes.backward)
    assert told.seconds > 0


def test_of_evaluate(demo: hp.Classifier) -> None:
    asked = evaluate.Evaluate(metrics=(AOPC(), Randomisation(at_most=2)), randomised=FEWEST)
    told = evaluate.effort(asked, demo, 2 * COUNT, HERE)
    assert told is not None
    with counting(demo) as plain:
        evaluated(replace(asked, metrics=(AOPC(),)), demo, noise(demo, COUNT), None, HERE, 0)
    with counting(demo) as both:
        evaluated(asked, demo, noise(demo, COUNT), None, HERE, COUNT)
    # the map of the first photos is made once for all metrics, and counted with each kind of them
    map_alone = 2 * COUNT
    assert told.passes == pytest.approx(
        (plain.forward + plain.backward) + (both.forward + both.backward) + map_alone, rel=0.02
    )


def test_of_compare(demo: hp.Classifier) -> None:
    asked = compare.Compare(explainers=(hp.GradCAM(),))
    told = compare.effort(asked, demo, [compare.Fooled(hp.load("demo"))], COUNT, HERE)
    assert told is not None
    with counting(demo) as passes:
        compared(demo, hp.load("demo"), "x", noise(demo, COUNT), asked.explainers, asked.penalties, HERE)
    # the clean model also predicts first
    assert told.passes == 2 * (passes.forward + passes.backward) - 2 * COUNT


def test_of_explain(demo: hp.Classifier) -> None:
    told = explain.effort(explain.Explain(top=2), demo, COUNT, HERE)
    assert told is not None
    # one pass forward, and one back for each class
    assert told.passes == COUNT * (1 + 2)


def test_few_photos_are_not_rehearsed(demo: hp.Classifier) -> None:
    def never(model: hp.Classifier, batch: object) -> None:
        pytest.fail("measured")

    assert rehearsal([demo], FEWEST - 1, never, HERE, 16) is None


def test_what_a_batch_costs_once_is_not_counted_for_each_photo(demo: hp.Classifier) -> None:
    def measure(model: hp.Classifier, batch: Batch) -> None:
        time.sleep(0.05 + 0.001 * len(batch.images))

    told = rehearsal([demo], 160, measure, HERE, 16)
    assert told is not None
    # ten batches of sixteen; each photo alone takes 8.2 seconds
    assert 0.66 < told.seconds < 1.32


def test_what_is_done_once_is_not_counted(demo: hp.Classifier) -> None:
    seen: list[int] = []

    def measure(model: hp.Classifier, batch: Batch) -> None:
        time.sleep(0.01 if seen else 1.5)
        seen.append(len(batch.images))

    told = rehearsal([demo], 100, measure, HERE, 16)
    assert told is not None
    assert seen == [1, 1]
    assert 1.0 < told.seconds < 5


def test_what_cannot_be_rehearsed_is_not_told(demo: hp.Classifier) -> None:
    def fails(model: hp.Classifier, batch: object) -> None:
        raise hp.InputError("no")

    assert rehearsal([demo], 100, fails, HERE, 16) is None
    assert of_training(demo, hp.GradCAM("nowhere"), HERE) is None


def test_of_fooling_grows_with_steps_and_photos(demo: hp.Classifier) -> None:
    def told(steps: int, held_out: int) -> Effort:
        found = of_fooling(Fool(recipe=hp.FineTune(steps=steps, batch_size=8, evaluate_every=steps)), demo, held_out)
        assert found is not None
        return found

    # forward, and one pass back of the logits for the map
    assert told(100, 0).passes == 100 * 8 * told(1, 0).passes / 8
    assert told(100, 10).passes - told(100, 0).passes == 4 * 10 * 2
    assert "at most: 100 steps of 8 photos" in told(100, 0).words()


def test_of_a_fooling_from_a_stage_on_takes_less_time(demo: hp.Classifier) -> None:
    whole, stage = (
        of_fooling(Fool(recipe=hp.FineTune(steps=100, trainable=trainable)), demo, 0) for trainable in (None, "stage7")
    )
    assert whole is not None
    assert stage is not None
    # what lies before the stage is computed once; of the demo network that is most of it
    assert stage.seconds < 0.7 * whole.seconds
    assert stage.passes == whole.passes


def test_of_a_defence_counts_its_control(demo: hp.Classifier) -> None:
    alone, both = (of_defence(Defend(control=control), demo, 576, 64) for control in (False, True))
    assert alone is not None
    assert both is not None
    assert 1.8 < both.passes / alone.passes < 2.1


def test_what_will_be_refused_is_not_estimated(demo: hp.Classifier) -> None:
    assert of_defence(Defend(), demo, 40, 4) is None
    assert of_repair(Repair(), demo, 40, 4) is None


def test_of_a_repair_counts_the_witness(demo: hp.Classifier) -> None:
    of = {remedy: of_repair(Repair(remedy=remedy), demo, 100, 10) for remedy in (Truth(steps=1), ReBN())}
    pulled, statistics = (found.passes for found in of.values() if found is not None)
    assert pulled - statistics >= 100 * questions()


def test_a_rehearsal_leaves_the_network_as_it_was(demo: hp.Classifier) -> None:
    before = {name: value.clone() for name, value in demo.state_dict().items()}
    wanted = [value.requires_grad for value in demo.parameters()]
    assert of_training(demo, hp.GradCAM(), HERE) is not None
    assert all(torch.equal(before[name], value) for name, value in demo.state_dict().items())
    assert [value.requires_grad for value in demo.parameters()] == wanted
