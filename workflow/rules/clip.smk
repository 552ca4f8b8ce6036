# The scenes CLIP from scratch: draw pairs, train, measure on held-out scenes. No study needs it,
# as its weights ship in data/models/scenes.
CLIP = f"{STUDY.results}/clip/scenes"
CLIP_METRICS = f"{CLIP}/model/metrics.json"
# Number of scenes, seed, and whether each holds a composition that training never shows.
PAIRS = {
    "train": (50000, 1, ""),
    "validation": (1000, 2, ""),
    "heldout": (3000, 5, ""),
    "unseen": (3000, 6, "--held-out"),
}


rule clip_pairs:
    output:
        f"{CLIP}/{{part}}.h5",
    log:
        f"{CLIP}/logs/pairs_{{part}}.log",
    benchmark:
        f"{CLIP}/benchmarks/pairs_{{part}}.tsv"
    wildcard_constraints:
        part="|".join(PAIRS),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=code("simulate"),
        n=lambda wildcards: PAIRS[wildcards.part][0],
        seed=lambda wildcards: PAIRS[wildcards.part][1],
        held_out=lambda wildcards: PAIRS[wildcards.part][2],
    shell:
        "braindecode-clip simulate scenes --n {params.n} --seed {params.seed} {params.held_out}"
        " --out {output:q} > {log:q} 2>&1"


rule clip_train_shapes:
    input:
        recipe="config/clip/scenes-shapes.yaml",
        pairs=f"{CLIP}/train.h5",
        validation=f"{CLIP}/validation.h5",
    output:
        f"{CLIP}/shapes/open_clip_model.safetensors",
    log:
        f"{CLIP}/logs/train_shapes.log",
    benchmark:
        f"{CLIP}/benchmarks/train_shapes.tsv"
    conda:
        ENVIRONMENT
    threads: workflow.cores
    resources:
        mem_mb=4000,
        runtime=600,
    params:
        code=code("clip"),
        model=folder_of(),
        state=f"{CLIP}/shapes-state",
    shell:
        "braindecode-clip clip train --recipe {input.recipe:q} --pairs {input.pairs:q}"
        " --validation {input.validation:q} --out {params.model:q} --state {params.state:q}"
        " --resume --threads {threads} > {log:q} 2>&1"


rule clip_train:
    input:
        recipe="config/clip/scenes.yaml",
        initial=f"{CLIP}/shapes/open_clip_model.safetensors",
        pairs=f"{CLIP}/train.h5",
        validation=f"{CLIP}/validation.h5",
    output:
        f"{CLIP}/model/open_clip_model.safetensors",
    log:
        f"{CLIP}/logs/train.log",
    benchmark:
        f"{CLIP}/benchmarks/train.tsv"
    conda:
        ENVIRONMENT
    threads: workflow.cores
    resources:
        mem_mb=4000,
        runtime=600,
    params:
        code=code("clip"),
        initial=lambda wildcards, input: str(Path(input.initial).parent),
        model=folder_of(),
        state=f"{CLIP}/model-state",
    shell:
        "braindecode-clip clip train --recipe {input.recipe:q} --initial {params.initial:q}"
        " --pairs {input.pairs:q} --validation {input.validation:q} --out {params.model:q}"
        " --state {params.state:q} --resume --threads {threads} > {log:q} 2>&1"


rule clip_evaluate:
    input:
        weights=f"{CLIP}/model/open_clip_model.safetensors",
        heldout=f"{CLIP}/heldout.h5",
        unseen=f"{CLIP}/unseen.h5",
    output:
        CLIP_METRICS,
    log:
        f"{CLIP}/logs/evaluate.log",
    benchmark:
        f"{CLIP}/benchmarks/evaluate.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=code("clip"),
        model=folder_of(),
    shell:
        "braindecode-clip clip evaluate --model {params.model:q} --pairs {input.heldout:q}"
        " --pairs {input.unseen:q} --out {output:q} > {log:q} 2>&1"
