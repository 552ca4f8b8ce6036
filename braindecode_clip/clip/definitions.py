"""What the figures of ``clip evaluate`` and ``clip forgetting`` are, for their own files."""

from __future__ import annotations

_PER_CLASS = "mean over classes of the share of their pictures"

DEFINITIONS = {
    "grouped": (
        "A candidate is right when its picture is the query's and its caption one of that "
        "picture's; pictures of the same file count as one, and captions with the same words "
        "(case, punctuation and blanks apart). A perfect model scores 1."
    ),
    "ungrouped": (
        "A candidate is right only as the very row of the query's pair, as published figures "
        "count: a perfect model scores 1/m where m pictures share a caption."
    ),
    "image_to_text": (
        "Pictures ask, all captions of all pictures are candidates; the best right caption counts."
    ),
    "text_to_image": "Every caption asks, all pictures are candidates.",
    "r1, r5, r10": (
        "Share of queries with a right candidate among the first k; candidates of equal "
        "similarity count by the expectation over their orders."
    ),
    "mean_reciprocal_rank": "Mean over queries of 1 / rank of the first right candidate.",
    "median_rank": "Median over queries of that rank, from 1.",
    "folds": "The same within random folds of the pictures (COCO's 1K protocol), all together.",
    "pooled": (
        "image_to_text and text_to_image outside 'retrieval': pools of distinct first captions, "
        "chance of r1 1 / pool_size, interval from the spread of the pools."
    ),
    "chance": (
        "Expected of a random order of the candidates, exactly; of alignment and cosine_true, "
        "what pairs that do not belong together reach; of uniformity, vectors evenly on the "
        "sphere; of modality_gap, pictures and captions swapped at random in each picture; null "
        "where it means nothing."
    ),
    "ci_low, ci_high": (
        "95 %. 'bca': bootstrap over clusters of pictures ('drawn_together'; of zero-shot figures, "
        "pictures of the same file), the candidates as they are; 't': where BCa fails; 'wilson': "
        "where no resample differs, or of counted shares; 'jackknife': groups of clusters left out "
        "in turn; 'bootstrap': percentiles within classes."
    ),
    "n_resampled": "Clusters (or groups) that the interval draws.",
    "top_1, top_5": "Share of pictures with the true class among the first k, no training.",
    "mean_per_class_top_1, mean_per_class_top_5": f"{_PER_CLASS}.",
    "mean_average_precision": "Mean over classes of the area under precision and recall.",
    "probe": (
        "Multinomial logistic regression on unit vectors, the inverse penalty chosen by "
        "cross-validation within the training pictures. control: the same with a label drawn for "
        "each type (Hewitt & Liang 2019); selectivity: top_1 less that. chance of top_k is "
        "uniform; chance_majority is the most frequent training class."
    ),
    "alignment": "Mean squared distance of the unit vectors of a picture and its caption.",
    "cosine_true, cosine_other, cosine_margin": (
        "Mean cosine of pairs, of all others, and the difference; n counts the pairs."
    ),
    "image_uniformity, text_uniformity": (
        "Log of the mean of exp(-2 squared distance) over distinct pictures, or captions (at most "
        "5,000, drawn); lower is more even."
    ),
    "modality_gap": "Distance of the centroids of pictures and captions.",
    "modality_separability": (
        "Share of vectors on their side of the plane halfway between the centroids of the other "
        "half; 0.5 where the modalities mix."
    ),
    "image_effective_rank, text_effective_rank": (
        "Exponential of the entropy of the singular values of the centred vectors."
    ),
    "p": (
        "Of forgetting: two-sided, the models exchanged within random clusters; null for figures "
        "that are no means over pictures."
    ),
    "q": "p corrected for all rows of the table (Benjamini & Hochberg 1995).",
}
