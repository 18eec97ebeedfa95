import math

import pytest
import torch

from lt_lib.training import DistributionAlignment, align_predictions, fixmatch, mean_teacher, pseudo_label


@pytest.fixture
def batch():
    rng = torch.Generator().manual_seed(0)
    target = torch.rand(40, 3, dtype=torch.float64, generator=rng).pow(6)
    return target / target.sum(dim=1, keepdim=True), torch.randn(40, 3, dtype=torch.float64, generator=rng)


def log_softmax(row):
    total = math.log(sum(math.exp(value) for value in row))
    return [value - total for value in row]


@pytest.mark.parametrize("make", [fixmatch, pseudo_label])
def test_the_hard_loss_in_plain_python(batch, make):
    target, logits = (part.tolist() for part in batch)
    kept, total = 0, 0.0
    for q, z in zip(target, logits, strict=True):
        if max(q) >= 0.8:
            kept += 1
            total -= log_softmax(z)[q.index(max(q))]
    term = make(0.8).loss(*batch)
    assert 0 < kept < 40
    assert float(term.mask.sum()) == kept
    # Divided by the whole batch, not by the confident samples.
    assert float(term.loss) == pytest.approx(total / 40, rel=1e-13)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_soft_loss_in_plain_python(batch, temperature):
    total = 0.0
    for q, z in zip(*(part.tolist() for part in batch), strict=True):
        if max(q) >= 0.8:
            powers = [p ** (1 / temperature) for p in q]
            total -= sum(p / sum(powers) * value for p, value in zip(powers, log_softmax(z), strict=True))
    term = fixmatch(0.8, temperature=temperature).loss(*batch)
    assert float(term.loss) == pytest.approx(total / 40, rel=1e-12)
    assert float(term.loss) != pytest.approx(float(fixmatch(0.8).loss(*batch).loss), rel=1e-3)


def test_a_target_of_exact_zeros_stays_finite():
    target = torch.tensor([[1.0, 0.0, 0.0]])
    logits = torch.tensor([[-1e4, 0.0, 1e4]], requires_grad=True)
    for rule in (fixmatch(), fixmatch(temperature=0.5), mean_teacher()):
        loss = rule.loss(target, logits).loss
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()


def test_thresholds_of_zero_and_one(batch):
    assert float(fixmatch(0.0).loss(*batch).mask.mean()) == 1
    certain = torch.tensor([[1.0, 0.0], [0.999, 0.001]])
    assert fixmatch(1.0).loss(certain, torch.zeros(2, 2)).mask.tolist() == [1, 0]


def test_a_stack_has_a_threshold_per_member(batch):
    target, logits = (part.expand(2, 40, 3) for part in batch)
    term = fixmatch(torch.tensor([[0.5], [0.9]], dtype=torch.float64)).loss(target, logits)
    for position, threshold in enumerate((0.5, 0.9)):
        alone = fixmatch(threshold).loss(*batch)
        torch.testing.assert_close(term.loss[position], alone.loss)
        assert torch.equal(term.mask[position], alone.mask)


def test_mean_teacher_is_the_squared_distance(batch):
    term = mean_teacher().loss(*batch)
    expected = sum(
        sum((math.exp(a) - b) ** 2 for a, b in zip(log_softmax(z), q, strict=True)) / 3
        for q, z in zip(*(part.tolist() for part in batch), strict=True)
    )
    assert float(term.loss) == pytest.approx(expected / 40, rel=1e-13)
    assert float(term.mask.mean()) == 1


def test_who_teaches_and_who_sees_what():
    assert (fixmatch().student, fixmatch().teacher) == ("strong", "student")
    assert (pseudo_label().student, pseudo_label().teacher) == ("same", "student")
    assert (mean_teacher().student, mean_teacher().teacher) == ("weak", "average")


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_wrong_threshold_is_refused(threshold):
    with pytest.raises(ValueError, match=r"`threshold` must be in \[0, 1\]"):
        fixmatch(threshold)


def test_a_wrong_temperature_is_refused():
    with pytest.raises(ValueError, match="`temperature` must be a finite number of at least 0"):
        pseudo_label(temperature=-1.0)


def test_alignment_in_plain_python():
    rng = torch.Generator().manual_seed(0)
    target = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    aligner = DistributionAlignment(target, 3, window=4, dtype=torch.float64)
    means = [[1 / 3] * 3] * 4
    for _ in range(7):
        table = torch.randn(5, 3, dtype=torch.float64, generator=rng).softmax(dim=1)
        average = [sum(row[c] for row in means[-4:]) / 4 for c in range(3)]
        expected = []
        for row in table.tolist():
            raised = [p * (1e-6 + t) / (1e-6 + a) for p, t, a in zip(row, target.tolist(), average, strict=True)]
            expected.append([value / sum(raised) for value in raised])
        torch.testing.assert_close(aligner(table), torch.tensor(expected, dtype=torch.float64), rtol=1e-13, atol=0)
        aligner.update(table, torch.tensor([0]))
        means.append(table.mean(dim=0).tolist())


def test_the_running_target_is_the_mean_of_the_labels():
    aligner = DistributionAlignment("running", 2, window=1, dtype=torch.float64)
    labels, expected = torch.tensor([0, 0, 0, 1]), [0.5, 0.5]
    flat = torch.full((1, 2), 0.5, dtype=torch.float64)
    for _ in range(3):
        aligner.update(flat, labels)
        expected = [0.999 * value + 0.001 * share for value, share in zip(expected, (0.75, 0.25), strict=True)]
    torch.testing.assert_close(aligner(flat)[0], torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=0)


def test_without_a_target_nothing_is_changed():
    aligner = DistributionAlignment(None, 2, window=1)
    table = torch.tensor([[0.9, 0.1]])
    aligner.update(table, torch.tensor([0]))
    assert aligner(table) is table
    assert aligner.model_mean.tolist() == pytest.approx([0.9, 0.1])


def test_a_stack_aligns_every_member_by_its_own_target():
    rng = torch.Generator().manual_seed(0)
    targets = [None, torch.tensor([0.7, 0.2, 0.1]), "running"]
    stack = DistributionAlignment(targets, 3, window=3)
    alone = [DistributionAlignment(target, 3, window=3) for target in targets]
    for _ in range(5):
        table = torch.randn(3, 6, 3, generator=rng).softmax(dim=-1)
        labels = torch.randint(3, (3, 4), generator=rng)
        corrected = stack(table)
        stack.update(table, labels)
        for position, single in enumerate(alone):
            torch.testing.assert_close(corrected[position], single(table[position]))
            single.update(table[position], labels[position])
    assert stack.starved() == [[], [], []]


def test_a_class_that_is_never_predicted_stays_finite_and_is_named():
    aligner = DistributionAlignment(torch.tensor([0.5, 0.25, 0.25]), 3, window=2)
    table = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.4, 0.0]])
    for _ in range(3):
        aligner.update(table, torch.tensor([0]))
    corrected = aligner(table)
    assert torch.isfinite(corrected).all()
    torch.testing.assert_close(corrected.sum(dim=1), torch.ones(2))
    assert aligner.starved() == [2]
    certain = align_predictions(table, torch.tensor([0.5, 0.25, 0.25]))
    assert torch.isfinite(certain).all()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ([-1.0, 0.3, 0.4], "`target` must be 3 non-negative numbers with sum 1, got"),
        ([-0.2, 0.6, 0.6], "`target` must be 3 non-negative numbers with sum 1, got"),
        ([0.4, 0.3, 0.4], "`target` must be 3 non-negative numbers with sum 1, got"),
        ([float("nan"), 0.5, 0.5], "`target` must be 3 non-negative numbers with sum 1, got"),
        ([1.0], "`target` must be 3 non-negative numbers with sum 1, got"),
    ],
)
def test_a_target_that_is_no_distribution_is_refused(target, message):
    with pytest.raises(ValueError, match=message):
        align_predictions(torch.full((4, 3), 1 / 3), torch.tensor(target))
    with pytest.raises(ValueError, match=message.replace("target", "targets")):
        DistributionAlignment(torch.tensor(target), 3)


def test_predictions_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"`probabilities` must have shape \(samples, classes\), got \(2, 4, 3\)"):
        align_predictions(torch.full((2, 4, 3), 1 / 3), torch.full((3,), 1 / 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_target_may_miss_its_sum_by_its_own_rounding(dtype):
    for classes in (2, 3, 10, 100):
        target = torch.rand(classes, generator=torch.Generator().manual_seed(classes)).softmax(dim=0).to(dtype)
        table = torch.full((4, classes), 1 / classes, dtype=dtype)
        assert align_predictions(table, target).dtype == dtype
        assert DistributionAlignment(target, classes, dtype=dtype).fixed.dtype == dtype


def test_a_checkpoint_restores_the_alignment():
    rng = torch.Generator().manual_seed(0)
    one, two = (DistributionAlignment("running", 3, window=4) for _ in range(2))
    for _ in range(6):
        one.update(torch.rand(5, 3, generator=rng), torch.tensor([0, 1]))
    two.load_state_dict(one.state_dict())
    for _ in range(3):
        table = torch.rand(5, 3, generator=rng)
        assert torch.equal(one(table), two(table))
        one.update(table, torch.tensor([2]))
        two.update(table, torch.tensor([2]))


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        (torch.tensor([0.5, 0.6]), {}, "`targets` must be 2 non-negative numbers with sum 1"),
        (torch.tensor([1.5, -0.5]), {}, "`targets` must be 2 non-negative numbers with sum 1"),
        (torch.tensor([1.0]), {}, "`targets` must be 2 non-negative"),
        ("runing", {}, "Did you mean 'running'"),
        (None, {"window": 0}, "`window` must be an integer of at least 1, got 0"),
    ],
)
def test_wrong_alignments_are_refused(target, options, message):
    with pytest.raises(ValueError, match=message):
        DistributionAlignment(target, 2, **options)
