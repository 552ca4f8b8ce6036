"""The statistics of a whole study: time and memory, against a loop over conditions.

python benchmarks/group.py [--quick] [--repeats N] [--out FILE.json]

4 subjects x 3 ROIs x 10 decoders in both directions, 1,000 test pictures, 10,000 permutations;
retrievals are made when they are asked for, so that none but one is in memory. The time to make
them is measured apart.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
from measure import make_parser, measured, write_figures

from braindecode_clip.artifacts import Embeddings, Predictions, Retrieval
from braindecode_clip.config.group import GroupConfig
from braindecode_clip.evaluate.group import group
from braindecode_clip.evaluate.group_labels import exchange_of
from braindecode_clip.retrieve import retrieve

N_DIMS = 64
DIRECTIONS = ("brain_to_image", "image_to_brain")


def retrievals(subjects: int, rois: int, decoders: int, n: int) -> Iterator[Retrieval]:
    ids = np.array([f"p{i:04d}" for i in range(n)])
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((n, N_DIMS))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    embeddings = Embeddings(ids, vectors.astype(np.float32), "image", {"model": "none"})
    for subject in range(subjects):
        for roi in range(rois):
            for decoder in range(decoders):
                noise = rng.standard_normal((n, N_DIMS)) / np.sqrt(N_DIMS)
                info = {"subject": f"{subject}", "roi": f"r{roi}", "decoder": f"d{decoder}"}
                predictions = Predictions(
                    vectors=((0.1 + 0.02 * decoder) * vectors + noise).astype(np.float32),
                    stimulus_id=ids,
                    group=np.full(n, "1"),
                    fold=np.full(n, "all"),
                    n_repeats=np.ones(n, dtype=np.int64),
                    train_ids=np.array(["t"]),
                    unit="stimulus",
                    fingerprint={"model": "none"},
                    info={**info, "split": "s", "encoder": "e"},
                )
                for direction in DIRECTIONS:
                    yield retrieve(
                        predictions, embeddings, ids, direction=direction, gallery="test"
                    )


def main() -> None:
    arguments = make_parser(__doc__.splitlines()[0]).parse_args()
    subjects, rois, decoders, n = (2, 2, 3, 200) if arguments.quick else (4, 3, 10, 1000)
    size = (subjects, rois, decoders, n)
    options = GroupConfig(n_permutations=999 if arguments.quick else 10_000)
    ids = np.array([f"p{i:04d}" for i in range(n)])
    samples = {f"{s}": (ids, np.full(n, "1")) for s in range(subjects)}
    exchange = exchange_of(samples, "stimulus")
    started = time.process_time()
    n_made = sum(1 for _ in retrievals(*size))
    made_s = time.process_time() - started
    found = {}
    figures = measured(
        lambda: found.update(result=group(retrievals(*size), exchange, options=options, seed=0))
    )
    figures["cpu_s"] -= made_s
    result = found["result"]
    print(
        f"{subjects} subjects x {rois} ROIs x {decoders} decoders x 2 directions ({n_made} "
        f"rankings of {n}), {options.n_permutations} permutations: {len(result.rows)} scores, "
        f"{len(result.pairs)} paired comparisons\n  CPU {figures['cpu_s']:.0f} s (making the "
        f"rankings, {made_s:.0f} s, apart), added memory {figures['memory_mb']:.0f} MB"
    )
    write_figures(arguments.out, {**figures, "making_s": made_s, "n_rows": len(result.rows)})


if __name__ == "__main__":
    main()
