"""How pictures and captions lie in the shared space: alignment, uniformity, gap, rank.

- Alignment and uniformity: Wang & Isola, ICML 2020, equations 1 and 2 with alpha 2 and t 2.
- Modality gap: Liang et al., NeurIPS 2022, section 2.
- Effective rank: Roy & Vetterli, EUSIPCO 2007.

All are of unit vectors. None of them says how good a model is: a model may align better and
retrieve worse. They say what changed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import hyp0f1
from scipy.stats import t as student

from braindecode_clip.clip.grouped_recall import Captioned
from braindecode_clip.clip.score import Measure, Score, cluster_sums, mean_measure
from braindecode_clip.similarity import similarity_blocks, unit_rows

#: Vectors that uniformity looks at, at most: pairs grow with the square.
MOST_VECTORS = 5000
#: Groups of pictures that the jackknife of the effective rank leaves out in turn.
N_GROUPS = 20


def geometry_measures(data: Captioned, *, seed: int = 0) -> list[Measure]:
    """Return the measures that have a bootstrap.

    Parameters
    ----------
    data : Captioned
    seed : int
        Draws the vectors that uniformity looks at, where there are more than
        :data:`MOST_VECTORS`, and halves the pictures for the separability.

    Returns
    -------
    list of Measure
        alignment, cosine_true, cosine_other, cosine_margin; image_uniformity and
        text_uniformity (of distinct pictures and captions; missing with fewer than two);
        modality_gap; modality_separability.
    """
    images, texts = unit_rows(data.images), unit_rows(data.texts)
    rng = np.random.default_rng(seed)
    found = [_cosines(data, images, texts)]
    for name, vectors, same, cluster in (
        ("image", images, data.picture, data.cluster),
        ("text", texts, data.caption, data.cluster[data.image_of_text]),
    ):
        first = np.unique(same, return_index=True)[1]
        if len(first) > MOST_VECTORS:
            first = np.sort(rng.permutation(first)[:MOST_VECTORS])
        if len(first) > 1:
            found.append(_uniformity(f"{name}_uniformity", vectors[first], cluster[first]))
    found.append(_gap(data, images, texts))
    found.append(_separability(data, images, texts, rng))
    return found


def _cosines(data: Captioned, images: np.ndarray, texts: np.ndarray) -> Measure:
    """Cosines of pairs, and of all pictures with all captions that are not theirs."""
    own = np.einsum("ij,ij->i", images[data.image_of_text], texts)
    image_sums, image_counts, text_sums, text_counts = _other_sums(data, images, texts)
    clusters, n_pairs = data.cluster, len(texts)
    # Both ends of a pair vary, so each counts for its own cluster.
    others, n_others = np.zeros((len(images), 2)), len(images)
    np.add.at(others, np.arange(n_others), np.stack([image_sums, image_counts], axis=1))
    np.add.at(others, data.image_of_text, np.stack([text_sums, text_counts], axis=1))
    pairs = np.zeros((len(images), 2))
    np.add.at(pairs, data.image_of_text, np.stack([own, np.ones(n_pairs)], axis=1))
    sums, _ = cluster_sums(np.concatenate([pairs, others], axis=1), clusters)
    total = sums.sum(axis=0)
    other = total[2] / total[3] if total[3] else math.nan

    def statistic(weights: np.ndarray) -> np.ndarray:
        drawn = weights @ sums
        true = drawn[:, 0] / drawn[:, 1]
        with np.errstate(invalid="ignore"):
            far = other + 2 * (drawn[:, 2] / drawn[:, 3] - other)
        return np.stack([2 - 2 * true, true, far, true - far], axis=1)

    return Measure(
        ("alignment", "cosine_true", "cosine_other", "cosine_margin"),
        statistic,
        n_clusters=len(sums),
        n=n_pairs,
        chance=(2 - 2 * other, other, math.nan, 0.0),
    )


def _other_sums(
    data: Captioned, images: np.ndarray, texts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sum the cosines with all that are not right, without forming them.

    Returns
    -------
    image_sums, image_counts : ndarray (n_images,) float64
    text_sums, text_counts : ndarray (n_texts,) float64
    """
    belongs = data.belongs().astype(np.float64)
    found = []
    for belong, own, vectors, other, others in (
        (belongs, data.picture, images, data.caption, texts),
        (belongs.T.tocsr(), data.caption, texts, data.picture, images),
    ):
        size = belong.shape[1]
        member = sparse.csr_array(
            (np.ones(len(other)), (other, np.arange(len(other)))), shape=(size, len(other))
        )
        right, n_right = belong @ (member @ others), belong @ member.sum(axis=1)
        wrong = others.sum(axis=0) - right
        found += [np.einsum("ij,ij->i", vectors, wrong[own]), len(others) - n_right[own]]
    return tuple(found)


def _uniformity(name: str, vectors: np.ndarray, clusters: np.ndarray) -> Measure:
    r"""Log of the mean Gaussian potential of pairs.

    .. math:: U = \log \frac{1}{n (n - 1)} \sum_{i \ne j} e^{-2 \lVert x_i - x_j \rVert^2}

    A bootstrap of pairs would meet a vector with itself, so clusters are drawn with the means of
    their rows (the first term of Hoeffding's decomposition), whose variance counts four times.
    """
    sums = np.empty(len(vectors))
    for rows, block in similarity_blocks(vectors, vectors):
        potential = np.exp(4.0 * block.astype(np.float64) - 4.0)
        potential[np.arange(len(block)), np.arange(rows.start, rows.stop)] = 0.0
        sums[rows] = potential.sum(axis=1)
    totals, sizes = cluster_sums(sums[:, None] / (len(vectors) - 1), clusters)
    mean = totals.sum() / sizes.sum()

    def statistic(weights: np.ndarray) -> np.ndarray:
        drawn = (weights @ totals)[:, 0] / (weights @ sizes)
        return (np.log(mean) + 2 * np.log(drawn / mean))[:, None]

    return Measure(
        (name,),
        statistic,
        n_clusters=len(totals),
        n=len(vectors),
        chance=(uniformity_of_sphere(vectors.shape[1]),),
    )


def uniformity_of_sphere(n_dims: int) -> float:
    r"""Return the uniformity of vectors that fill the sphere evenly, the least there is.

    .. math:: \log\left(e^{-4}\, {}_0F_1(; d/2;\, 4)\right)

    from :math:`E\, e^{4 c} = {}_0F_1(; d/2;\, 4)` of the cosine c of two such vectors.
    """
    return float(np.log(hyp0f1(n_dims / 2, 4.0)) - 4.0)


def _gap(data: Captioned, images: np.ndarray, texts: np.ndarray) -> Measure:
    """Distance of the centroids; chance is that of modalities swapped at random in each picture."""
    n = len(images)
    counts = np.bincount(data.image_of_text, minlength=n)
    means = np.zeros_like(images)
    np.add.at(means, data.image_of_text, texts)
    apart = images - means / counts[:, None]
    sums, sizes = cluster_sums(apart, data.cluster)

    def statistic(weights: np.ndarray) -> np.ndarray:
        drawn = (weights @ sums) / (weights @ sizes)[:, None]
        return np.linalg.norm(drawn, axis=1, keepdims=True)

    # The root of the mean square over all swaps, as E ‖Σ ±d‖² is Σ ‖d‖².
    chance = float(np.sqrt((apart**2).sum()) / n)
    return Measure(("modality_gap",), statistic, n_clusters=len(sums), n=n, chance=(chance,))


def _separability(
    data: Captioned, images: np.ndarray, texts: np.ndarray, rng: np.random.Generator
) -> Measure:
    """Share of vectors on their modality's side of the plane between the other half's centroids.

    Pictures of one cluster are in one half.
    """
    place = np.unique(data.cluster, return_inverse=True)[1]
    half = rng.permutation(int(place.max()) + 1)[place] % 2
    right_images, right_texts = np.full(len(images), 0.5), np.full(len(texts), 0.5)
    for k in (0, 1):
        fitted, text_half = half != k, half[data.image_of_text]
        if not fitted.any() or fitted.all():
            continue
        centres = images[fitted].mean(axis=0), texts[text_half != k].mean(axis=0)
        normal, middle = centres[0] - centres[1], (centres[0] + centres[1]) / 2
        right_images[~fitted] = 0.5 + 0.5 * np.sign((images[~fitted] - middle) @ normal)
        right_texts[text_half == k] = 0.5 - 0.5 * np.sign((texts[text_half == k] - middle) @ normal)
    # Modalities weigh the same, whatever the number of captions.
    mean_text = np.bincount(data.image_of_text, right_texts) / np.bincount(data.image_of_text)
    return mean_measure(
        {"modality_separability": (right_images + mean_text) / 2},
        data.cluster,
        chance={"modality_separability": 0.5},
    )


def effective_rank(vectors: np.ndarray) -> float:
    r"""Return the exponential of the entropy of the centred singular values.

    .. math:: \exp\left(-\sum_k p_k \log p_k\right), \qquad p_k = \sigma_k / \sum_j \sigma_j

    Parameters
    ----------
    vectors : ndarray (n, n_dims)

    Returns
    -------
    float
        1 to min(n - 1, n_dims); NaN of fewer than two vectors, or where all are equal.
    """
    if len(vectors) < 2:
        return math.nan
    centred = np.asarray(vectors, dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    # The smaller Gram matrix has the squares of the singular values.
    gram = centred.T @ centred if centred.shape[0] > centred.shape[1] else centred @ centred.T
    values = np.linalg.eigvalsh(gram)
    values = np.sqrt(np.where(values > values[-1] * 1e-12, values, 0.0))
    if values[-1] ** 2 <= 1e-24 * len(vectors):
        return math.nan
    share = values[values > 0] / values.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def rank_estimates(data: Captioned, *, seed: int = 0) -> dict[str, tuple[float, np.ndarray, int]]:
    """Return effective ranks, as they are and with one group of clusters left out.

    A bootstrap repeats vectors, which lowers the rank, so there is a jackknife over
    :data:`N_GROUPS` random groups of clusters.

    Returns
    -------
    dict of str to (value, without, n)
        image_effective_rank and text_effective_rank; ``without`` (n_groups,) float64.
    """
    names, place = np.unique(data.cluster, return_inverse=True)
    n_groups = min(N_GROUPS, len(names))
    group = (np.random.default_rng(seed).permutation(len(names)) % n_groups)[place]
    found = {}
    for name, vectors, own in (
        ("image", unit_rows(data.images), group),
        ("text", unit_rows(data.texts), group[data.image_of_text]),
    ):
        without = np.array([effective_rank(vectors[own != k]) for k in range(n_groups)])
        found[f"{name}_effective_rank"] = (effective_rank(vectors), without, len(vectors))
    return found


def rank_scores(data: Captioned, *, seed: int = 0) -> dict[str, Score]:
    """Return image_effective_rank and text_effective_rank, see :func:`rank_estimates`."""
    return {
        name: Score(value, n=n, **jackknife_ends(value, without))
        for name, (value, without, n) in rank_estimates(data, seed=seed).items()
    }


def jackknife_ends(value: float, without: np.ndarray) -> dict[str, Any]:
    r"""Return ci_low, ci_high, ci_method and n_resampled of a delete-a-group jackknife.

    .. math:: \hat\theta \pm t_{G-1} \sqrt{\tfrac{G-1}{G} \textstyle\sum_g
        (\hat\theta_{(g)} - \bar\theta)^2}

    Without an interval, for lack of groups or of spread, the method is "none".
    """
    n_groups, error = len(without), math.nan
    if n_groups > 1:
        error = math.sqrt((n_groups - 1) * float(np.var(without)))
    if not (math.isfinite(value) and error > 1e-9 * abs(value)):
        return {"ci_low": math.nan, "ci_high": math.nan, "ci_method": "none", "n_resampled": 0}
    half = float(student.ppf(0.975, n_groups - 1)) * error
    ends = {"ci_low": value - half, "ci_high": value + half}
    return {**ends, "ci_method": "jackknife", "n_resampled": n_groups}
