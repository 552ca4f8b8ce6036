# Pictures with captions in each style, for recipes that adapt the scenes CLIP to one. "lines" is new
# to it; "filled" is the style that it knows, for comparison.
STYLE_FOLDER = f"{STUDY.results}/clip/styles"
# Number and seed. Neither the scenes CLIP's own pairs (seeds 1 to 6) nor those on which the recipes
# were chosen (101, 111).
STYLE_PAIRS = {
    "train": (10000, 11, ""),
    "validation": (1000, 12, ""),
    "heldout": (3000, 15, ""),
    "unseen": (3000, 16, "--held-out"),
}


rule style_pairs:
    output:
        f"{STYLE_FOLDER}/{{style}}_{{part}}.h5",
    log:
        f"{STYLE_FOLDER}/logs/{{style}}_{{part}}.log",
    benchmark:
        f"{STYLE_FOLDER}/benchmarks/{{style}}_{{part}}.tsv"
    wildcard_constraints:
        part="|".join(STYLE_PAIRS),
        style="filled|lines",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code("simulate"),
        n=lambda wildcards: STYLE_PAIRS[wildcards.part][0],
        seed=lambda wildcards: STYLE_PAIRS[wildcards.part][1],
        held_out=lambda wildcards: STYLE_PAIRS[wildcards.part][2],
    shell:
        "braindecode-clip simulate scenes --style {wildcards.style} --n {params.n}"
        " --seed {params.seed} {params.held_out} --out {output:q} > {log:q} 2>&1"
