"""Statistics of the boards and the surveys: numpy and scipy only, every random draw by seed."""

from .agreement import Correlation, correlation, correlation_of_means, krippendorff, pearson, spearman
from .detection import Auroc, auroc
from .intervals import BothWays, Claims, both_ways, bounded_mean, bounded_median, claims, mean, wilson
from .paired import Comparison, compare, holm, permutation, ranks

__all__ = [
    "Auroc",
    "BothWays",
    "Claims",
    "Comparison",
    "Correlation",
    "auroc",
    "both_ways",
    "bounded_mean",
    "bounded_median",
    "claims",
    "compare",
    "correlation",
    "correlation_of_means",
    "holm",
    "krippendorff",
    "mean",
    "pearson",
    "permutation",
    "ranks",
    "spearman",
    "wilson",
]
