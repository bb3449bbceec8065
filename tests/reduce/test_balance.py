import numpy as np
import pytest

from pipeline.draws import draws
from pipeline.errors import InputError
from pipeline.export.allocation import allocate, cut, shares
from pipeline.reduce.classes.hierarchy import Resampling, hierarchical
from pipeline.vectors import Floats, Ints, ranked, unit
from tests.reduce.balanced import Tree, copies, sample


def leveled(sizes: Ints, target: int, given: Ints) -> bool:
    """No child is below another by more than one unless it gives all it has."""
    poorest = given[given < sizes].min(initial=target)
    return given.max() <= poorest + 1


@pytest.mark.parametrize(("sizes", "target", "expected"), [
    ([100, 10, 1], 30, 19),
    ([1000, 1000, 1000, 10], 100, 30),
    ([5, 5, 5], 14, 4),
    ([5, 5, 5], 15, 5),
    ([5, 9, 5], 100, 9),
    ([0, 3, 0], 2, 2),
    ([7, 7], 1, 0),
    ([], 3, 0),
])
def test_the_cut_is_the_largest_that_fits(sizes: list[int], target: int, expected: int) -> None:
    assert cut(np.array(sizes, np.int64), target) == expected


def test_shares_sum_to_the_target_and_are_as_even_as_the_sizes_allow() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        sizes = rng.integers(0, rng.choice([3, 50, 10_000]), rng.integers(1, 30))
        target = int(rng.integers(0, sizes.sum() + 2))
        c = cut(sizes, target)
        assert np.minimum(sizes, c).sum() <= target
        assert c == sizes.max() or np.minimum(sizes, c + 1).sum() > target
        given = shares(sizes, target, rng.integers(2**63, size=len(sizes)).astype(np.uint64))
        assert given.sum() == min(target, sizes.sum())
        assert ((given >= 0) & (given <= sizes)).all()
        assert leveled(sizes, target, given)


def test_what_the_cut_leaves_goes_to_every_child_alike_over_seeds() -> None:
    counts = np.sum([shares(np.array([9, 9, 9, 9, 1]), 11, draws(np.arange(5), seed, 0)) for seed in range(2000)], axis=0)
    assert counts[4] == 2000
    assert np.abs(counts[:4] / 2000 - 2.5).max() < 0.05   # 4 sigma


def test_draws_are_uniform_and_differ_between_seeds_and_streams() -> None:
    values = draws(np.arange(200_000), 7, 0)
    assert len(np.unique(values)) == 200_000
    assert np.abs(np.bincount((values >> np.uint64(60)).astype(int)) / 12_500 - 1).max() < 0.04   # 4.5 sigma
    assert abs(np.corrcoef(np.arange(200_000), values.astype(float))[0, 1]) < 0.01
    for other in (draws(np.arange(200_000), 8, 0), draws(np.arange(200_000), 7, 1)):
        assert abs(np.corrcoef(values.astype(float), other.astype(float))[0, 1]) < 0.01


PARENTS = (np.array([0, 0, 0, 1, 1, 2], np.int32), np.array([0, 0, 1], np.int32))
SIZES = np.array([500, 40, 3, 200, 200, 1000])


def test_a_parent_counts_with_the_rows_below_it_and_not_with_its_children() -> None:
    """60 : the top two nodes get 30 each; of the first's two children 15 each (3 classes and 2); the other's only child all 30."""
    assert allocate(SIZES, PARENTS, 60, seed=0)[[3, 4, 5]].sum() == 45
    given = allocate(SIZES, PARENTS, 60, seed=0)
    assert given[5] == 30
    assert given[:3].sum() == given[3:5].sum() == 15
    assert given[2] == 3
    assert given[:2].tolist() == [6, 6]
    assert allocate(np.array([1, 1, 1, 500, 500, 4]), PARENTS, 60, seed=0).tolist()[-1] == 4   # 56 remain for the rest
    assert allocate(np.array([1, 1, 1, 500, 500, 4]), PARENTS, 60, seed=0)[:3].tolist() == [1, 1, 1]


@pytest.mark.parametrize("target", [0, 1, 7, 100, 1942, 1943, 5000])
@pytest.mark.parametrize("multiplier", [1, 3])
def test_an_allocation_sums_to_the_target_or_takes_all(target: int, multiplier: int) -> None:
    given = allocate(SIZES, PARENTS, target, seed=1, multiplier=multiplier)
    assert given.sum() == min(target, multiplier * SIZES.sum())
    assert (given <= multiplier * SIZES).all()


def test_classes_and_parents_without_rows_get_nothing() -> None:
    given = allocate(np.array([0, 5, 0, 0, 0, 9]), PARENTS, 10, seed=0)
    assert given.tolist() == [0, 5, 0, 0, 0, 5]
    assert allocate(np.zeros(6, np.int64), PARENTS, 10, seed=0).sum() == 0


@pytest.fixture(scope="module")
def tree() -> Tree:
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(6), SIZES).astype(np.int32)
    rng.shuffle(classes)
    return Tree(classes, PARENTS, rng.random(len(classes), np.float32))


def test_a_sample_is_sorted_exact_and_without_repeats(tree: Tree) -> None:
    for target in (1, 60, 1500):
        rows = sample(tree, target, seed=0)
        assert len(rows) == target
        assert (np.diff(rows) > 0).all()
        assert np.array_equal(np.bincount(tree.classes[rows], minlength=6), allocate(SIZES, PARENTS, target, seed=0))
    assert np.array_equal(sample(tree, 10_000, seed=0), np.arange(SIZES.sum()))
    assert sample(tree, 0, seed=0).tolist() == []


def test_with_a_multiplier_the_copies_of_one_class_differ_by_at_most_one(tree: Tree) -> None:
    rows = sample(tree, 300, seed=0, multiplier=4)
    assert len(rows) == 300
    assert (np.diff(rows) >= 0).all()
    times = np.bincount(rows, minlength=len(tree.classes))
    assert times.max() <= 4
    assert times[tree.classes == 2].tolist() == [4, 4, 4]
    for one in range(6):
        assert np.ptp(times[tree.classes == one]) <= 1
    assert np.array_equal(sample(tree, 10**6, seed=0, multiplier=2), np.repeat(np.arange(SIZES.sum()), 2))
    assert copies(np.arange(3), np.full(3, 3), np.full(3, 7)).tolist() == [3, 2, 2]


def test_the_closest_first_are_those_with_the_highest_similarity(tree: Tree) -> None:
    rows = sample(tree, 600, seed=0, order="closest")
    assert tree.similarity is not None
    chosen = np.isin(np.arange(len(tree.classes)), rows)
    for one in range(6):
        inside = tree.classes == one
        worst = tree.similarity[inside & chosen].min()
        assert tree.similarity[inside & ~chosen].max(initial=0) <= worst


def test_rows_without_a_class_are_never_taken(tree: Tree) -> None:
    classes = tree.classes.copy()
    classes[::2] = -1
    assert (sample(Tree(classes, PARENTS), 10_000, seed=0) % 2 == 1).all()


def test_a_class_sampled_in_parts_gives_the_same_rows(tree: Tree) -> None:
    """What a distributed export does: counts per class add up, draws need only (seed, row), the order is merged."""
    whole = sample(tree, 400, seed=3)
    parts = np.array_split(np.arange(len(tree.classes)), 7)
    sizes = np.sum([np.bincount(tree.classes[part], minlength=6) for part in parts], axis=0)
    take = allocate(sizes, PARENTS, 400, seed=3)
    drawn = np.concatenate([draws(part, 3, -1) for part in parts])
    order, place = ranked(tree.classes, drawn)
    assert np.array_equal(whole, np.sort(order[place < take[tree.classes[order]]]))


def test_with_keys_of_the_content_the_order_of_the_input_does_not_matter(tree: Tree) -> None:
    keys = draws(np.arange(len(tree.classes)), 99, 0)
    order = np.random.default_rng(5).permutation(len(tree.classes))
    rows = sample(Tree(tree.classes, PARENTS, keys=keys), 400, seed=0)
    shuffled = sample(Tree(tree.classes[order], PARENTS, keys=keys[order]), 400, seed=0)
    assert set(order[shuffled].tolist()) == set(rows.tolist())


def test_another_seed_gives_another_sample_of_the_same_allocation(tree: Tree) -> None:
    one, again, other = (sample(tree, 300, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert len(np.intersect1d(one, other)) < 200


@pytest.mark.parametrize(("target", "multiplier"), [(-1, 1), (5, 0)])
def test_a_target_or_multiplier_that_makes_no_sense_is_refused(target: int, multiplier: int) -> None:
    with pytest.raises(InputError, match="target >= 0 and a multiplier >= 1"):
        allocate(SIZES, PARENTS, target, seed=0, multiplier=multiplier)


def divergence(truth: Ints, rows: Ints) -> float:
    """KL of the concepts of a sample from the uniform distribution, in nats."""
    share = np.bincount(truth[rows], minlength=50) / len(rows)
    return float((share[share > 0] * np.log(share[share > 0] * 50)).sum())


@pytest.fixture(scope="module")
def zipf() -> tuple[Floats, Ints]:
    """AT-5c: 26,453 rows of 50 concepts, the largest 110 times the smallest (noise of norm 0.5)."""
    rng = np.random.default_rng(0)
    share = np.arange(1, 51) ** -1.2
    sizes = np.round(share / share.sum() * 26_453).astype(int)
    sizes[0] += 26_453 - sizes.sum()
    truth = np.repeat(np.arange(50), sizes)
    means = unit(rng.standard_normal((50, 32)))
    return unit(means[truth] + 0.5 * rng.standard_normal((len(truth), 32)) / np.sqrt(32)), truth


def test_sampling_at_random_follows_the_crowd(zipf: tuple[Floats, Ints]) -> None:
    _, truth = zipf
    assert divergence(truth, sample(Tree(np.zeros(len(truth), np.int32)), 1000, seed=0)) >= 0.9


@pytest.mark.parametrize(("sizes", "resampling", "low", "high"), [
    ([200], None, 0.3, np.inf),
    ([1000, 50], None, 0, 0.10),
    ([600, 50], [Resampling(3, 10), Resampling(3, 5)], 0, 0.05),
])
def test_a_hierarchy_balances_concepts_that_flat_classes_do_not(
    zipf: tuple[Floats, Ints], sizes: list[int], resampling: list[Resampling] | None, low: float, high: float,
) -> None:
    rows, truth = zipf
    levels = hierarchical(rows, sizes, seed=0, resampling=resampling)
    chosen = sample(Tree(levels[0].parent_of_below, [level.parent_of_below for level in levels[1:]]), 1000, seed=0)
    assert len(np.unique(chosen)) == len(chosen) == 1000
    assert low <= divergence(truth, chosen) <= high
