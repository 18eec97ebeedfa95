import numpy as np
import pytest

from lt_lib import counts
from lt_lib.data import PROTOCOLS, Protocol, labelled_counts, make_split, one_protocol, tabulate
from lt_lib.data.splits import long_tail_indices


@pytest.fixture
def targets(rng):
    return rng.permutation(np.repeat(np.arange(4), 200))


CREST = Protocol("crest", n_max=100, label_fraction=0.1)
DASO = Protocol("daso", n_labelled=40, n_unlabelled=80)


@pytest.mark.parametrize(
    ("ratio", "expected", "rest", "thirty"),
    [
        (50, [500, 324, 210, 136, 88, 57, 37, 24, 16, 10], 12594, 4204),
        (100, [500, 300, 180, 108, 65, 39, 24, 14, 9, 5], 11162, 3726),
        (200, [500, 278, 154, 86, 48, 27, 15, 9, 5, 3], 10078, 3365),
    ],
)
def test_the_labelled_counts_are_those_of_cifar10(ratio, expected, rest, thirty):
    sizes = counts.exponential_counts(5000, 10, ratio)
    assert labelled_counts(sizes, 0.1).tolist() == expected
    assert sizes.sum() - sum(expected) == rest
    assert labelled_counts(sizes, 0.3).sum() == thirty


@pytest.mark.parametrize(("ratio", "ten", "thirty"), [(50, 1307, 3826), (100, 1128, 3299)])
def test_the_labelled_counts_are_those_of_cifar100(ratio, ten, thirty):
    sizes = counts.exponential_counts(500, 100, ratio)
    assert (labelled_counts(sizes, 0.1).sum(), labelled_counts(sizes, 0.3).sum()) == (ten, thirty)
    assert labelled_counts(sizes, 0.1).min() == 1


def test_a_whole_product_is_not_rounded_up():
    assert 0.07 * 100 > 7
    assert labelled_counts([100], 0.07).tolist() == [7]
    assert labelled_counts([31], 0.1).tolist() == [4]
    assert labelled_counts([31], 0.1, rounding="floor").tolist() == [3]
    assert labelled_counts([36], 0.1, rounding="nearest").tolist() == [4]
    assert labelled_counts([34], 0.1, rounding="nearest").tolist() == [3]
    assert labelled_counts([7, 2], 1.0).tolist() == [7, 2]


def test_the_sizes_are_those_of_the_three_families():
    targets = np.repeat(np.arange(10), 5000)
    sizes = {}
    for name in ("crest-10", "darp", "daso"):
        split = make_split(PROTOCOLS[name], targets, 10, 100.0)
        sizes[name] = (len(split.labelled), len(split.unlabelled))
    assert sizes == {"crest-10": (1244, 11162), "darp": (3720, 7443), "daso": (1236, 9922)}


@pytest.mark.parametrize("protocol", [CREST, DASO])
def test_a_split_is_disjoint_counted_and_named(targets, protocol):
    split = make_split(protocol, targets, 4, 10.0)
    both = np.concatenate([split.labelled, split.unlabelled])
    assert len(np.unique(both)) == len(both)
    assert split.labelled.dtype == split.unlabelled.dtype == np.int64
    assert split.class_counts.tolist() == np.bincount(targets[split.labelled], minlength=4).tolist()
    assert split.unlabelled_counts.tolist() == np.bincount(targets[split.unlabelled], minlength=4).tolist()
    assert split.protocol == protocol.name


def test_crest_divides_one_long_tailed_set(targets):
    split = make_split(CREST, targets, 4, 10.0, subset_seed=3, split_seed=5)
    whole = long_tail_indices(targets, counts.exponential_counts(100, 4, 10.0), seed=3)
    assert sorted(np.concatenate([split.labelled, split.unlabelled])) == sorted(whole)
    other = make_split(CREST, targets, 4, 10.0, subset_seed=3, split_seed=6)
    assert sorted(np.concatenate([other.labelled, other.unlabelled])) == sorted(whole)
    assert set(other.labelled) != set(split.labelled)
    again = make_split(CREST, targets, 4, 10.0, subset_seed=3, split_seed=5)
    assert again.hash == split.hash
    assert other.hash != split.hash


def test_the_labelled_share_of_a_class_is_a_fair_draw(targets):
    members = long_tail_indices(targets, counts.exponential_counts(100, 4, 10.0), seed=0)
    hits = np.zeros(len(targets))
    for seed in range(400):
        hits[make_split(CREST, targets, 4, 10.0, split_seed=seed).labelled] += 1
    head = members[targets[members] == 0]
    # 400 draws of one in ten: 40 expected, standard deviation 6.
    assert hits[head].min() > 40 - 6 * 4.5
    assert hits[head].max() < 40 + 6 * 4.5


def test_the_unlabelled_profile_can_differ_and_run_the_other_way(targets):
    steeper = make_split(DASO, targets, 4, 8.0, unlabelled_imbalance_ratio=2.0)
    assert steeper.class_counts.tolist() == counts.exponential_counts(40, 4, 8).tolist()
    assert steeper.unlabelled_counts.tolist() == counts.exponential_counts(80, 4, 2).tolist()
    backwards = Protocol("daso", n_labelled=40, n_unlabelled=80, reversed_unlabelled=True)
    turned = make_split(backwards, targets, 4, 8.0)
    assert turned.unlabelled_counts.tolist() == counts.exponential_counts(80, 4, 8)[::-1].tolist()


@pytest.mark.parametrize("protocol", [CREST, DASO])
def test_the_class_order_says_which_class_is_rare(targets, protocol):
    split = make_split(protocol, targets, 4, 10.0, class_order=[2, 0, 3, 1])
    assert np.argsort(-split.class_counts).tolist() == [2, 0, 3, 1]
    assert np.argsort(-split.unlabelled_counts).tolist() == [2, 0, 3, 1]


def test_everything_can_be_labelled(targets):
    split = make_split(Protocol("crest", n_max=20, label_fraction=1.0), targets, 4, 2.0)
    assert len(split.unlabelled) == 0
    assert split.unlabelled_counts.tolist() == [0, 0, 0, 0]


def test_two_protocols_have_two_names():
    variants = [
        *PROTOCOLS.values(),
        Protocol("crest", n_max=500, label_fraction=0.1),
        Protocol("crest", n_max=5000, label_fraction=0.1, rounding="floor"),
        Protocol("darp", n_labelled=500, n_unlabelled=4000),
        Protocol("daso", n_labelled=500, n_unlabelled=4000, reversed_unlabelled=True),
        *(Protocol("crest", n_max=5000, label_fraction=share) for share in (1 / 3, np.nextafter(1 / 3, 1), 0.3333333)),
    ]
    assert len({protocol.name for protocol in variants}) == len(variants)


@pytest.mark.parametrize(
    ("share", "percent"), [(0.1, "10"), (0.07, "7"), (0.125, "12.5"), (1, "100"), (1 / 3, "33.33333333333333")]
)
def test_a_name_says_the_share_in_percent(share, percent):
    assert Protocol("crest", n_max=50, label_fraction=share).name == f"crest (50, {percent} %)"
    assert PROTOCOLS["crest-30"].name == "crest (5000, 30 %)"


def test_flags_and_seeds_are_checked_where_they_change_nothing_too(targets):
    for family in ({"family": "daso", "n_labelled": 3, "n_unlabelled": 3}, {"family": "crest", "n_max": 9}):
        with pytest.raises(TypeError, match="`reversed_unlabelled` must be True or False, got 'no'"):
            Protocol(**family, label_fraction=0.1 * (family["family"] == "crest"), reversed_unlabelled="no")
    for protocol in (CREST, DASO):
        with pytest.raises(ValueError, match="`subset_seed` must be an integer of at least 0, got -9"):
            make_split(protocol, targets, 4, 10.0, subset_seed=-9)
    assert make_split(DASO, targets, 4, 10.0, subset_seed=5).hash == make_split(DASO, targets, 4, 10.0).hash


def test_a_table_refuses_two_protocols():
    one = {"protocol": PROTOCOLS["crest-10"].name, "accuracy": 0.5}
    two = {"protocol": PROTOCOLS["daso"].name, "accuracy": 0.6}
    assert tabulate([one, one]).accuracy.tolist() == [0.5, 0.5]
    for refuse in (tabulate, one_protocol):
        with pytest.raises(ValueError, match="`rows` must come from one protocol, got 'crest .*' and 'daso"):
            refuse([one, two])
        with pytest.raises(ValueError, match="`rows` must each name their protocol, got None in row 1"):
            refuse([one, {"accuracy": 0.1}])
        with pytest.raises(ValueError, match="`rows` must hold at least one result"):
            refuse([])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"family": "crest", "n_max": 10, "label_fraction": 0.0}, r"`label_fraction` must be in \(0, 1\], got 0.0"),
        ({"family": "crest", "n_max": 10, "label_fraction": 1.1}, r"`label_fraction` must be in \(0, 1\], got 1.1"),
        ({"family": "crest", "n_max": 0, "label_fraction": 0.1}, "`n_max` must be an integer of at least 1, got 0"),
        ({"family": "crest", "n_max": 9, "label_fraction": 0.1, "n_labelled": 3}, "`n_labelled` must be left out"),
        ({"family": "daso", "n_labelled": 3}, "`n_unlabelled` must be an integer of at least 1, got 0"),
        ({"family": "darp", "n_labelled": 3, "n_unlabelled": 3, "n_max": 2}, "`n_max` must be left out with family"),
        ({"family": "darp", "n_labelled": 3, "n_unlabelled": 3, "rounding": "floor"}, "`rounding` must be left out"),
        ({"family": "dasso"}, "Did you mean 'daso'"),
    ],
)
def test_wrong_protocols_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Protocol(**arguments)


def test_a_class_without_a_labelled_sample_is_refused(targets):
    with pytest.raises(ValueError, match="leave a labelled image in every class, got 0.1 of 9 .* for class 1"):
        labelled_counts([10, 9], 0.1, rounding="floor")
    with pytest.raises(ValueError, match="`unlabelled_imbalance_ratio` must be left out with family 'crest'"):
        make_split(CREST, targets, 4, 10.0, unlabelled_imbalance_ratio=5.0)
    with pytest.raises(ValueError, match="must not ask for more than class 0 has"):
        make_split(Protocol("crest", n_max=1000, label_fraction=0.1), targets, 4, 10.0)
