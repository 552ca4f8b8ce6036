"""Exact search and ranks against FAISS and the bare product, and what approximate indices lose.

python benchmarks/retrieval.py [--quick] [--repeats N] [--out FILE.json]

CPU seconds are of one thread; the last columns of the search tables are seconds on the clock with
two. Needs the extra 'faiss'. FAISS searches the same array without a copy of it (faiss.knn, the
code of IndexFlatIP). A million candidates take 2 GB.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import faiss
import numpy as np
from measure import parse_arguments, print_table, side_by_side, write_figures
from threadpoolctl import threadpool_limits

from braindecode_clip.metrics import ranks
from braindecode_clip.retrieve import ExactSearch
from braindecode_clip.retrieve.approximate import ApproximateSearch, measure_recall

N_DIMS, K = 512, 10
BATCHES = (1, 100, 1000)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def clustered(rng: np.random.Generator, n: int, *, n_clusters: int = 500) -> np.ndarray:
    """Vectors like those of an encoder: clusters, a spectrum that falls, a common mean."""
    spectrum = (1.0 / np.sqrt(1.0 + np.arange(N_DIMS))).astype(np.float32)
    centres = rng.standard_normal((n_clusters, N_DIMS), dtype=np.float32) * spectrum
    vectors = np.empty((n, N_DIMS), dtype=np.float32)
    for start in range(0, n, 20_000):
        part = slice(start, min(start + 20_000, n))
        size = part.stop - part.start
        own = rng.standard_normal((size, N_DIMS), dtype=np.float32) * spectrum
        vectors[part] = unit(centres[rng.integers(0, n_clusters, size)] + own + 0.1)
    return vectors


def decoded(rng: np.random.Generator, true: np.ndarray) -> np.ndarray:
    """Predictions as a ridge makes them: shrunk to the mean, with noise in all directions."""
    noise = rng.standard_normal(true.shape, dtype=np.float32) / np.sqrt(N_DIMS)
    mean = true.mean(axis=0)
    return unit(mean + 0.5 * (true - mean) + 0.8 * noise).astype(np.float32)


def two_cores(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median seconds on the clock with two threads, in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    faiss.omp_set_num_threads(2)
    with threadpool_limits(2):
        for _ in range(repeats):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - start)
    faiss.omp_set_num_threads(1)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def search_table(gallery: np.ndarray, rng: np.random.Generator, repeats: int) -> dict:
    start = time.process_time()
    exact = ExactSearch(gallery)
    print(f"\n{len(gallery)} candidates prepared in {time.process_time() - start:.1f} CPU s")
    faiss.omp_set_num_threads(1)
    figures = {}
    for n_queries in BATCHES:
        queries = decoded(rng, gallery[rng.integers(0, len(gallery), n_queries)])

        def ours(queries: np.ndarray = queries) -> np.ndarray:
            return exact.nearest(queries, K).index

        def peer(queries: np.ndarray = queries) -> np.ndarray:
            return faiss.knn(queries, gallery, K, metric=faiss.METRIC_INNER_PRODUCT)[1]

        same = float((ours() == peer()).mean())
        calls = {"FAISS flat": peer, "ExactSearch": ours}
        table = side_by_side(calls, repeats=repeats)
        clock = two_cores(calls, repeats)
        for name, row in table.items():
            row["two_cores_wall_s"] = clock[name]
        print_table(f"Top {K} of {len(gallery)} x {N_DIMS}, {n_queries} queries", table)
        ratio = clock["ExactSearch"] / clock["FAISS flat"]
        print(
            f"two cores: FAISS {clock['FAISS flat']:.3f} s, ExactSearch "
            f"{clock['ExactSearch']:.3f} s, ratio {ratio:.2f}; equal places {same:.4f}"
        )
        figures[str(n_queries)] = {**table, "equal_places": same}
    return figures


def rank_table(rng: np.random.Generator, n: int, repeats: int) -> dict:
    gallery = clustered(rng, n)
    queries = decoded(rng, gallery)
    true = np.arange(n)

    def product() -> float:
        # In slices, since the whole table would not fit beside other jobs.
        return sum(float((queries[i : i + 1000] @ gallery.T)[0, 0]) for i in range(0, n, 1000))

    def prepared() -> np.ndarray:
        return ranks(*ExactSearch(gallery).count_better(queries, true))

    table = side_by_side(
        {"bare float32 product": product, "exact ranks": prepared}, repeats=repeats
    )
    print_table(f"Ranks of {n} queries among {n}, {N_DIMS} dimensions", table)
    return table


def recall_table(sizes: tuple[int, ...], rng: np.random.Generator) -> list[dict]:
    """Build indices of growing galleries; recall on pictures and on decoded vectors."""
    rows = []
    print(f"\nApproximate indices: recall at {K}, and CPU ms for 100 decoded queries")
    for n in sizes:
        gallery = clustered(rng, n + 100)
        gallery, held_out = gallery[:-100], gallery[-100:]
        queries = decoded(rng, gallery[rng.integers(0, n, 100)])
        exact = ExactSearch(gallery)
        exact_ms = timed(lambda: exact.nearest(queries, K))  # noqa: B023
        for kind, settings in (
            ("ivf", {"n_probe": 8}),
            ("ivf", {"n_probe": 32}),
            ("ivf", {"n_probe": 128}),
            ("hnsw", {"ef": 32}),
            ("hnsw", {"ef": 256}),
        ):
            start = time.process_time()
            search = ApproximateSearch(gallery, kind=kind, **settings)
            build = time.process_time() - start
            row = {
                "n": n,
                "index": kind,
                **settings,
                "build_s": build,
                "recall_pictures": measure_recall(search, exact, held_out, k=K),
                "recall_decoded": measure_recall(search, exact, queries, k=K),
                "ms": timed(lambda: search.nearest(queries, K)),  # noqa: B023
                "exact_ms": exact_ms,
            }
            rows.append(row)
            print(
                f"{n:9d} {kind} {settings}: build {build:.1f} s, pictures "
                f"{row['recall_pictures']:.3f}, decoded {row['recall_decoded']:.3f}, "
                f"{row['ms']:.0f} ms (exact {exact_ms:.0f} ms)"
            )
    return rows


def timed(call: Callable[[], object]) -> float:
    """Return the least CPU ms of three calls."""
    with threadpool_limits(1):
        found = []
        for _ in range(3):
            start = time.process_time()
            call()
            found.append(1000 * (time.process_time() - start))
    return min(found)


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0])
    rng = np.random.default_rng(0)
    faiss.omp_set_num_threads(1)
    sizes = (3_000,) if arguments.quick else (10_000, 50_000)
    figures: dict[str, object] = {
        "ranks": rank_table(rng, 2_000 if arguments.quick else 10_000, arguments.repeats),
        "recall": recall_table(sizes, rng),
    }
    gallery = clustered(rng, 20_000 if arguments.quick else 1_000_000)
    figures["search"] = search_table(gallery, rng, arguments.repeats)
    write_figures(arguments.out, figures)


if __name__ == "__main__":
    main()
