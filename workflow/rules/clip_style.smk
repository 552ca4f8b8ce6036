# The scenes CLIP adapted to a style of pictures: draw pairs, train from data/models/scenes, measure
# on both styles. "lines" is new to it; "filled" is the style that it knows, adapted to with the same
# effort, for comparison. A study decodes with the result by an encoder of kind 'local'.
ADAPTED = f"{STUDY.results}/clip/scenes-{{style}}"
STYLES = ("filled", "lines")
# Seeds that neither the scenes CLIP's own pairs (1 to 6) nor the choice of the recipe used.
STYLE_PAIRS = {
    "train": (10000, 11, ""),
    "validation": (1000, 12, ""),
    "heldout": (3000, 15, ""),
    "unseen": (3000, 16, "--held-out"),
}


rule style_pairs:
    output:
        f"{ADAPTED}/{{part}}.h5",
    log:
        f"{ADAPTED}/logs/pairs_{{part}}.log",
    benchmark:
        f"{ADAPTED}/benchmarks/pairs_{{part}}.tsv"
    wildcard_constraints:
        part="|".join(STYLE_PAIRS),
        style="|".join(STYLES),
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


rule style_adapt:
    input:
        recipe="config/clip/scenes-{style}.yaml",
        initial="data/models/scenes/open_clip_model.safetensors",
        pairs=f"{ADAPTED}/train.h5",
        validation=f"{ADAPTED}/validation.h5",
    output:
        f"{ADAPTED}/model/open_clip_model.safetensors",
    log:
        f"{ADAPTED}/logs/train.log",
    benchmark:
        f"{ADAPTED}/benchmarks/train.tsv"
    wildcard_constraints:
        style="|".join(STYLES),
    conda:
        ENVIRONMENT
    threads: workflow.cores
    resources:
        mem_mb=4000,
        runtime=120,
    params:
        code=code("clip"),
        initial=lambda wildcards, input: str(Path(input.initial).parent),
        model=folder_of(),
        state=f"{ADAPTED}/model-state",
    shell:
        "braindecode-clip clip train --recipe {input.recipe:q} --initial {params.initial:q}"
        " --pairs {input.pairs:q} --validation {input.validation:q} --out {params.model:q}"
        " --state {params.state:q} --resume --threads {threads} > {log:q} 2>&1"
