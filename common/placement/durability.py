"""How likely a blob is lost within a year: two models of independent losses. Pure arithmetic.

A blob has n = k + m fragments, each on a disk of its own. One location loses its fragment at a
rate, for one of several causes; each loss is made good after a time of its own cause, detection
included. The blob is lost when m + 1 fragments are missing at once.

  binomial   cut time into pieces as long as a repair; in each, every fragment is missing with
             p = 1 - exp(-sum of rate * repair time), independently. Published by Backblaze
             (erasure-coding-durability): 17 + 3, 0.405 % a year, 6.5 days give their 11 nines.
  markov     states are numbers of missing fragments: i to i + 1 at (n - i) * rate, i to i - 1 at
             i / repair time (fragments are repaired beside one another); m + 1 is the end. Its mean
             time is exact here, by the recursion of birth-death chains; about m + 1 times more
             pessimistic than the binomial one, since repair times vary and overlap.

What neither knows: losses that have one cause (a zone on fire, one bad batch of disks, one bug,
one operator). Zones and the spread over them are for the first; checks of every byte for the third.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

YEAR_S = 365.25 * 86_400


@dataclass(frozen=True, slots=True)
class Cause:
    """Why one location loses a fragment: how often, and for how long it is missing then."""

    rate_per_year: float
    repair_s: float  # from the loss until the fragment is whole again, detection included


@dataclass(frozen=True, slots=True)
class Loss:
    """Probability that one blob is lost within a year."""

    binomial: float
    markov: float

    @property
    def worst(self) -> float:
        """The more pessimistic of both."""
        return max(self.binomial, self.markov)


def rate_of(share_per_year: float) -> float:
    """The rate of a yearly share: of disks with 1.5 % a year, 1.5 % fail within a year.

    raises   ValueError outside [0, 1)
    """
    return -math.log1p(-share_per_year)


def nines(probability: float) -> float:
    """11.3 of a probability of 5e-12; inf of none."""
    return math.inf if probability <= 0 else -math.log10(min(probability, 1.0))


def annual_loss(k: int, m: int, causes: Sequence[Cause]) -> Loss:
    """Work out both models for k + m and the causes together."""
    rate = sum(cause.rate_per_year for cause in causes)
    if not rate:
        return Loss(0.0, 0.0)
    repair_years = sum(cause.rate_per_year * cause.repair_s for cause in causes) / rate / YEAR_S
    if not m:  # nothing is ever repaired: the first loss is the last
        alone = -math.expm1(-k * rate)
        return Loss(alone, alone)
    return Loss(_binomial(k, m, rate, repair_years), _markov(k, m, rate, repair_years))


def _binomial(k: int, m: int, rate: float, repair_years: float) -> float:
    n = k + m
    missing = -math.expm1(-rate * repair_years)
    in_period = math.fsum(
        math.comb(n, i) * missing**i * (1 - missing) ** (n - i) for i in range(m + 1, n + 1)
    )
    if in_period >= 1.0:
        return 1.0
    return -math.expm1(math.log1p(-in_period) / repair_years)


def _markov(k: int, m: int, rate: float, repair_years: float) -> float:
    return -math.expm1(-1 / mean_years_to_loss(k, m, rate, repair_years))


def mean_years_to_loss(k: int, m: int, rate: float, repair_years: float) -> float:
    """Mean time from a whole blob to its loss, in the chain above; exact.

    The mean time from i to i + 1 missing is 1 / up + down / up * (that from i - 1 to i).
    """
    n, step, total = k + m, 0.0, 0.0
    for i in range(m + 1):
        up, down = (n - i) * rate, i / repair_years
        step = 1 / up + down / up * step
        total += step
    return total


def loss_while_degraded(k: int, m: int, missing: int, causes: Sequence[Cause]) -> float:
    """Probability that a blob with so many fragments missing is lost before it is whole again.

    In the chain above: to reach m + 1 missing before 0. 1.0 if it is lost already.
    """
    rate = sum(cause.rate_per_year for cause in causes)
    if missing > m:
        return 1.0
    if not missing or not rate:
        return 0.0
    repair_years = sum(cause.rate_per_year * cause.repair_s for cause in causes) / rate / YEAR_S
    weights = [1.0]
    for i in range(1, m + 1):
        weights.append(weights[-1] * (i / repair_years) / ((k + m - i) * rate))
    return math.fsum(weights[:missing]) / math.fsum(weights)


def groups(disks_of_zones: Sequence[int], n: int) -> int:
    """How many sets of n disks in n distinct zones there are: one blob's loss is one set's."""
    sets = [1] + [0] * n
    for disks in disks_of_zones:
        for size in range(n, 0, -1):
            sets[size] += sets[size - 1] * disks
    return sets[n]


def any_loss(one: float, count: int) -> float:
    """Probability that at least one of `count` independent things is lost."""
    return -math.expm1(count * math.log1p(-one)) if one < 1 else 1.0
