# Pictures with captions in each style of simulated scenes, for studies that adapt the scenes CLIP to
# one. "lines" is new to it; "filled" is the style that it knows, for comparison. Scenes that look
# like a test picture of the study are left out.
# Number and seed. Neither the scenes CLIP's own pairs (seeds 1 to 6) nor those on which the recipes
# were chosen (101, 111).
STYLE_PAIRS = {
    "train": (10000, 11, ""),
    "validation": (1000, 12, ""),
    "heldout": (3000, 15, ""),
    "unseen": (3000, 16, "--held-out"),
}


rule style_pairs:
    input:
        f"{SIMULATED}/stimuli/stimuli.tsv",
    output:
        f"{RESULTS}/pairs/{{style}}_{{part}}.h5",
    log:
        f"{LOGS}/style_pairs/{{style}}_{{part}}.log",
    benchmark:
        f"{BENCHMARKS}/style_pairs/{{style}}_{{part}}.tsv"
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
        " --seed {params.seed} {params.held_out} --leave-out {input:q} --out {output:q}"
        " > {log:q} 2>&1"
