# The CLIP models that a study adapts, and their controls; never on a stimulus that is tested.
ADAPTED = adapted_path(RESULTS, adaptation="{adaptation}", control=None)
SHUFFLED = adapted_path(RESULTS, adaptation="{adaptation}", control="shuffled_captions")
PERTURBED = adapted_path(RESULTS, adaptation="{adaptation}", control="weight_noise")
# Every picture that any split tests: all of them, where each is tested once.
FORBIDDEN_SPLIT = "test" if all(s.scheme == "stimulus" for s in SPLITS.values()) else None


wildcard_constraints:
    adaptation="|".join(ADAPTATIONS) or "(?!)",


rule clip_adapt:
    input:
        recipe=lambda wildcards: ADAPTATIONS[wildcards.adaptation].recipe,
        pairs=pair_files,
        initial=initial_weights,
        stimuli=optional(STIMULI),
    output:
        weights=f"{ADAPTED}/{WEIGHTS}",
        leakage=f"{ADAPTED}/leakage.json",
    log:
        f"{LOGS}/clip_adapt/{{adaptation}}.log",
    benchmark:
        f"{BENCHMARKS}/clip_adapt/{{adaptation}}.tsv"
    conda:
        ENVIRONMENT
    threads: workflow.cores
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=600,
    params:
        code=code("clip"),
        pairs=pair_flags,
        initial=initial_folder,
        captions=lambda wildcards: ADAPTATIONS[wildcards.adaptation].test_captions,
        split=option("--forbid-split", FORBIDDEN_SPLIT),
        model=folder_of(),
        # Undeclared: Snakemake deletes the outputs of a failed job, and a retry goes on from here.
        state=f"{RESULTS}/clip-state/{{adaptation}}",
    shell:
        "braindecode-clip clip train --recipe {input.recipe:q} --initial {params.initial:q}"
        " {params.pairs} --forbid {input.stimuli:q} {params.split}"
        " --forbid-captions {params.captions} --out {params.model:q} --state {params.state:q}"
        " --resume --threads {threads} > {log:q} 2>&1"


rule clip_adapt_shuffled:
    input:
        recipe=lambda wildcards: ADAPTATIONS[wildcards.adaptation].recipe,
        pairs=pair_files,
        initial=initial_weights,
        stimuli=optional(STIMULI),
    output:
        weights=f"{SHUFFLED}/{WEIGHTS}",
        leakage=f"{SHUFFLED}/leakage.json",
    log:
        f"{LOGS}/clip_adapt_shuffled/{{adaptation}}.log",
    benchmark:
        f"{BENCHMARKS}/clip_adapt_shuffled/{{adaptation}}.tsv"
    conda:
        ENVIRONMENT
    threads: workflow.cores
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=600,
    params:
        code=code("clip"),
        pairs=pair_flags,
        initial=initial_folder,
        captions=lambda wildcards: ADAPTATIONS[wildcards.adaptation].test_captions,
        split=option("--forbid-split", FORBIDDEN_SPLIT),
        model=folder_of(),
        state=f"{RESULTS}/clip-state/{{adaptation}}_shuffled-captions",
    shell:
        "braindecode-clip clip train --recipe {input.recipe:q} --initial {params.initial:q}"
        " {params.pairs} --shuffle-captions --forbid {input.stimuli:q} {params.split}"
        " --forbid-captions {params.captions} --out {params.model:q} --state {params.state:q}"
        " --resume --threads {threads} > {log:q} 2>&1"


rule clip_perturb:
    input:
        initial=initial_weights,
        weights=f"{ADAPTED}/{WEIGHTS}",
        leakage=f"{ADAPTED}/leakage.json",
    output:
        weights=f"{PERTURBED}/{WEIGHTS}",
        leakage=f"{PERTURBED}/leakage.json",
    log:
        f"{LOGS}/clip_perturb/{{adaptation}}.log",
    benchmark:
        f"{BENCHMARKS}/clip_perturb/{{adaptation}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=30,
    params:
        code=code("clip_perturb"),
        initial=initial_folder,
        adapted=lambda wildcards, input: str(Path(input.weights).parent),
        model=folder_of(),
        seed=STUDY.seed,
    shell:
        "braindecode-clip clip perturb --initial {params.initial:q} --adapted {params.adapted:q}"
        " --out {params.model:q} --seed {params.seed} > {log:q} 2>&1"
