"""What ranking and re-ranking cost at the size of Market-1501: 3,368 queries, 15,913 entries, 2,048 features."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from lit_modules.metrics.retrieval import (
    GroundTruth,
    rank_by_distances,
    rank_by_features,
    re_ranked_distances,
    score_ranks,
)
from tests.benchmarks.report import Figure

QUERIES, ENTRIES, FEATURES, IDENTITIES, CAMERAS, THREADS = 3_368, 15_913, 2_048, 750, 6, 2


def random_case() -> tuple[torch.Tensor, torch.Tensor, GroundTruth]:
    """Random features in groups by identity, so that neighbours are reciprocal as those of a trained network are."""
    identities = torch.arange(QUERIES + ENTRIES) % IDENTITIES
    features = torch.randn(QUERIES + ENTRIES, FEATURES) + torch.randn(IDENTITIES, FEATURES)[identities] / 2
    cameras = torch.randint(CAMERAS, (QUERIES + ENTRIES,))
    truth = GroundTruth(identities[:QUERIES], identities[QUERIES:], cameras[:QUERIES], cameras[QUERIES:])
    return features[:QUERIES], features[QUERIES:], truth


def rank(query: torch.Tensor, gallery: torch.Tensor, truth: GroundTruth) -> None:
    score_ranks(rank_by_features(query, gallery, truth))


def re_rank(query: torch.Tensor, gallery: torch.Tensor, truth: GroundTruth) -> None:
    score_ranks(rank_by_distances(re_ranked_distances(query, gallery), truth))


def measure_here(work: Callable[[torch.Tensor, torch.Tensor, GroundTruth], None]) -> None:
    """Print seconds and the process's largest memory in GB."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    case = random_case()
    started = time.perf_counter()
    work(*case)
    seconds = time.perf_counter() - started
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))


def measure(name: str) -> tuple[float, float]:
    """Return seconds and GB of a process of its own, whose memory nothing else has touched."""
    code = f"from tests.benchmarks import retrieval; retrieval.measure_here(retrieval.{name})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, memory = json.loads(done.stdout)
    return seconds, memory


def ranking() -> list[Figure]:
    """Time and memory of ranking and mAP, and of re-ranking, with everything that the process holds."""
    seconds, memory = measure("rank")
    again, memory_again = measure("re_rank")
    size = f"{QUERIES:,} x {ENTRIES:,} x {FEATURES:,}"
    return [
        Figure(f"ranking and mAP, {size}, s", seconds, 30, at_most=True),
        Figure(f"ranking and mAP, {size}, GB", memory, 2, at_most=True),
        Figure(f"re-ranking, {size}, s", again, 300, at_most=True),
        Figure(f"re-ranking, {size}, GB", memory_again, 6, at_most=True),
    ]
