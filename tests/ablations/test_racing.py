"""Racing: its decisions seed by seed, and its false claims, power and seeds in simulated studies."""

import math

import numpy as np
import pytest
from scipy import special, stats

from ablations.errors import StudyError
from ablations.racing import Comparison, Race, Scores, Standing, decide
from ablations.spending import nominal_levels
from ablations.statistics import paired, welch

RACE = Race(tuple(range(20)))
STACK = tuple(Comparison(row, row - 1) for row in range(1, 9))


def race_to_the_end(race: Race, comparisons: tuple[Comparison, ...], scores: np.ndarray) -> tuple[Standing, Scores]:
    """Run the seeds that are asked for until none is; `scores` holds a line a row, a column a seed of the race."""
    run: dict[int, dict[int, float]] = {}
    standing = decide(race, comparisons, run)
    while standing.needed:
        for row, seed in standing.needed:
            run.setdefault(row, {})[seed] = float(scores[row, race.seeds.index(seed)])
        standing = decide(race, comparisons, run)
    return standing, run


def followed(scores: np.ndarray, levels: tuple[float, ...], first: int) -> tuple[np.ndarray, np.ndarray]:
    """Race all tables (tables, rows, seeds) of a stack at once: claims -1, 0 or 1, and the looks' numbers of seeds."""
    seeds = scores.shape[2]
    claims = np.zeros((scores.shape[0], scores.shape[1] - 1))
    stopped = np.full(claims.shape, seeds)
    for look, level in zip(range(first, seeds + 1), levels, strict=True):
        mean, error = scores[:, :, :look].mean(2), scores[:, :, :look].var(2, ddof=1) / look
        difference, squares = np.diff(mean, axis=1), error[:, 1:] + error[:, :-1]
        df = squares**2 / (error[:, 1:] ** 2 + error[:, :-1] ** 2) * (look - 1)
        found = (claims == 0) & (2 * special.stdtr(df, -np.abs(difference) / np.sqrt(squares)) <= level)
        claims[found], stopped[found] = np.sign(difference)[found], look
    return claims, stopped


def test_a_race_starts_with_the_seeds_of_its_first_look() -> None:
    standing = decide(Race((4, 5, 9, 12)), [Comparison(1, 0)], {})
    assert standing.needed == ((0, 4), (1, 4), (0, 5), (1, 5), (0, 9), (1, 9))
    assert standing.decisions[0].verdict == "open"
    assert math.isnan(standing.decisions[0].difference.estimate)


def test_only_rows_of_open_comparisons_get_another_seed() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(90, 0.2, (4, 20))
    scores[0] -= 5  # so row 1 against row 0 is clear, and the others are not
    standing, run = race_to_the_end(RACE, STACK[:3], scores)
    assert [decision.verdict for decision in standing.decisions] == ["gain", "undecided", "undecided"]
    assert len(run[0]) == standing.decisions[0].seeds < 12
    assert [len(run[row]) for row in (1, 2, 3)] == [20, 20, 20]
    partly = {row: dict(list(run[row].items())[:15]) for row in (1, 2, 3)} | {0: run[0]}
    open_now = decide(RACE, STACK[:3], partly)
    assert open_now.needed == ((1, 15), (2, 15), (3, 15))
    assert open_now.rows_needed() == {1, 2, 3}


def test_a_comparison_stays_where_it_stopped_whatever_its_rows_get_later() -> None:
    scores = np.random.default_rng(1).normal(90, 0.2, (2, 20))
    scores[1] += 0.5
    standing, run = race_to_the_end(RACE, STACK[:1], scores)
    stopped = standing.decisions[0]
    assert stopped.seeds < 20
    scores[1, stopped.seeds :] -= 50
    everything = {row: dict(enumerate(scores[row].tolist())) for row in (0, 1)}
    assert decide(RACE, STACK[:1], everything) == standing
    assert {len(seeds) for seeds in run.values()} == {stopped.seeds}


def test_the_interval_is_that_of_the_level_of_its_look() -> None:
    scores = np.random.default_rng(2).normal(90, 0.2, (2, 9))
    race = Race(tuple(range(12)), first=4)
    run = {row: dict(enumerate(scores[row].tolist())) for row in (0, 1)}
    decision = decide(race, [Comparison(1, 0), Comparison(0, 1)], run).decisions[0]
    level = nominal_levels(tuple(range(4, 13)), 0.05 / 2)[9 - 4]
    expected = welch(scores[1], scores[0], confidence=1 - level)
    assert (decision.verdict, decision.seeds) == ("open", 9)
    assert (decision.difference.low, decision.difference.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("higher_is_better", "words"), [(True, "gain"), (False, "loss")])
def test_a_rise_is_a_gain_or_a_loss(higher_is_better: bool, words: str) -> None:
    scores = np.random.default_rng(3).normal(90, 0.1, (2, 20)) + np.array([[0], [3]])
    run = {row: dict(enumerate(scores[row].tolist())) for row in (0, 1)}
    assert decide(RACE, STACK[:1], run, higher_is_better).decisions[0].verdict == words


def test_rows_that_share_something_by_seed_are_compared_in_pairs() -> None:
    generator = np.random.default_rng(4)
    scores = generator.normal(90, 1, (1, 20)) + generator.normal(0, 0.05, (2, 20)) + np.array([[0], [0.2]])
    run = {row: dict(enumerate(scores[row].tolist())) for row in (0, 1)}
    unpaired = decide(RACE, [Comparison(1, 0)], run).decisions[0]
    pairs = decide(RACE, [Comparison(1, 0, pairs=True)], run).decisions[0]
    assert (unpaired.verdict, pairs.verdict) == ("undecided", "gain")
    n = pairs.seeds
    assert pairs.difference.p == pytest.approx(paired(scores[1, :n], scores[0, :n]).p)
    assert pairs.difference.pairs == n


def test_a_comparison_within_what_matters_stops() -> None:
    scores = np.random.default_rng(5).normal(90, 0.1, (2, 20))
    standing, _ = race_to_the_end(Race(RACE.seeds, effect=0.3), STACK[:1], scores)
    decision = standing.decisions[0]
    assert (decision.verdict, decision.seeds < 20) == ("too small", True)
    assert -0.3 < decision.difference.low < decision.difference.high < 0.3
    assert race_to_the_end(RACE, STACK[:1], scores)[0].decisions[0].verdict == "undecided"


def test_a_failed_seed_counts_as_run() -> None:
    scores = np.random.default_rng(6).normal(90, 0.2, (2, 20)) + np.array([[0], [2]])
    scores[1, [0, 2]] = math.nan
    standing, run = race_to_the_end(RACE, STACK[:1], scores)
    decision = standing.decisions[0]
    assert decision.verdict == "gain"
    assert (decision.difference.n_a, decision.difference.n_b) == (decision.seeds - 2, decision.seeds)
    assert len(run[1]) == decision.seeds


def test_pairs_leave_out_the_seeds_that_failed_on_either_side() -> None:
    scores = np.random.default_rng(6).normal(90, 0.2, (2, 20)) + np.array([[0], [2]])
    scores[0, 1], scores[1, 2] = math.nan, math.nan
    decision = race_to_the_end(RACE, (Comparison(1, 0, pairs=True),), scores)[0].decisions[0]
    assert (decision.verdict, decision.difference.pairs) == ("gain", decision.seeds - 2)


def test_a_row_whose_first_seeds_all_failed_is_not_raced_on() -> None:
    scores = np.random.default_rng(7).normal(90, 0.2, (2, 20))
    scores[1] = math.nan
    standing, run = race_to_the_end(RACE, STACK[:1], scores)
    assert standing.decisions[0].verdict == "no result"
    assert len(run[1]) == 3


def test_scores_without_spread_claim_nothing_before_the_last_seed() -> None:
    """One more test image is right in every one of the first seeds: no certainty yet."""
    scores = np.array([[90.0] * 20, [90.1] * 20])
    decision = race_to_the_end(RACE, STACK[:1], scores)[0].decisions[0]
    assert (decision.verdict, decision.seeds) == ("gain", 20)
    run = {row: dict(enumerate(scores[row, :19].tolist())) for row in (0, 1)}
    assert decide(RACE, STACK[:1], run).decisions[0].verdict == "open"


def test_a_look_that_has_nothing_to_spend_decides_nothing() -> None:
    """With many comparisons and a far end, the level of the first looks is 0 and their intervals have no ends."""
    race, comparisons = Race(tuple(range(100)), effect=0.3), [Comparison(1, 0)] * 100
    assert nominal_levels(race.looks, 0.05 / 100)[0] == 0
    run = {row: dict(enumerate((90 + row + np.arange(3.0)).tolist())) for row in (0, 1)}
    decision = decide(race, comparisons, run).decisions[0]
    assert (decision.verdict, decision.seeds) == ("open", 3)
    assert (decision.difference.low, decision.difference.high) == (-math.inf, math.inf)


def test_a_table_without_comparisons_needs_nothing() -> None:
    assert decide(RACE, [], {}) == Standing((), ())


@pytest.mark.parametrize("first", [1, 5])
def test_a_race_needs_seeds_for_its_first_look(first: int) -> None:
    with pytest.raises(StudyError, match=f"a race of at most 4 seeds cannot look first after {first}"):
        Race((0, 1, 2, 3), first=first)


@pytest.mark.parametrize("effect", [0.0, -0.3, math.nan])
def test_what_is_too_small_to_matter_must_be_above_zero(effect: float) -> None:
    with pytest.raises(StudyError, match="must be a number above 0"):
        Race(RACE.seeds, effect=effect)


def test_the_simulated_races_are_those_of_decide() -> None:
    scores = np.random.default_rng(8).normal(90, 0.2, (12, 9, 20))
    scores[:, 4:] += 0.25
    claims, stopped = followed(scores, nominal_levels(RACE.looks, 0.05 / 8), RACE.first)
    words = {1: "gain", -1: "loss", 0: "undecided"}
    for table, of_table, seeds in zip(scores, claims, stopped, strict=True):
        standing, _ = race_to_the_end(RACE, STACK, table)
        assert [decision.verdict for decision in standing.decisions] == [words[int(claim)] for claim in of_table]
        assert [decision.seeds for decision in standing.decisions] == seeds.tolist()


@pytest.mark.parametrize("seeds", [8, 20])
@pytest.mark.parametrize(("skewed", "spreads"), [(False, (0.2, 0.2)), (False, (0.2, 0.6)), (True, (0.2, 0.2))])
def test_without_effect_at_most_one_race_in_twenty_claims_something(
    skewed: bool, spreads: tuple[float, float], seeds: int
) -> None:
    """Skewed and of unequal spread at once is left out: there a t test claims too much, with one look as with many."""
    tables, generator = 4000, np.random.default_rng(9)
    shape = (tables, 9, seeds)
    noise = 1 - generator.exponential(1, shape) if skewed else generator.normal(0, 1, shape)
    scores = noise * np.resize(spreads, 9)[:, None]
    claims, _ = followed(scores, nominal_levels(tuple(range(3, seeds + 1)), 0.05 / 8), 3)
    assert 0.005 < (claims != 0).any(axis=1).mean() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / tables)


def test_a_race_finds_what_the_fixed_design_finds_with_fewer_seeds() -> None:
    """Three of eight tricks help by 0.4 where seeds differ by 0.2: power and seeds against 20 seeds for every row."""
    tables, generator = 1500, np.random.default_rng(10)
    scores = generator.normal(0, 0.2, (tables, 9, 20))
    for row in (1, 4, 6):
        scores[:, row:] += 0.4
    claims, stopped = followed(scores, nominal_levels(RACE.looks, 0.05 / 8), 3)
    helps = np.isin(np.arange(1, 9), (1, 4, 6))
    fixed = stats.ttest_ind(scores[:, 1:], scores[:, :-1], axis=2, equal_var=False).pvalue <= 0.05 / 8
    assert (claims[:, helps] == 1).mean() > fixed[:, helps].mean() - 0.02
    assert stopped[:, helps].mean() < 14
    assert (claims[:, ~helps] != 0).any(axis=1).mean() < 0.05


def test_all_repeated_intervals_of_a_table_hold_at_every_look() -> None:
    """That is what lets a comparison stop for being too small to matter, as well as for a gain or a loss."""
    tables, generator = 300, np.random.default_rng(11)
    race, missed = Race(tuple(range(8))), 0
    for scores in generator.normal(0, 0.2, (tables, 4, 8)) + 0.1 * np.arange(4)[:, None]:
        intervals = [
            decide(race, STACK[:3], {row: dict(enumerate(scores[row, :look].tolist())) for row in range(4)})
            for look in race.looks
        ]
        differences = [decision.difference for standing in intervals for decision in standing.decisions]
        missed += any(not difference.low <= 0.1 <= difference.high for difference in differences)
    assert missed / tables <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / tables)
