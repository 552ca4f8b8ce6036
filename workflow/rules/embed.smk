EMBEDDINGS = embeddings_path(RESULTS, encoder="{encoder}")


def adapted_weights(wildcards):
    """The weights of an encoder that the study adapts; no file for others."""
    made = [e.name for e in STUDY.encoders if e.kind == "adapted"]
    name = wildcards.encoder
    return [f"{model_folder(name)}/{WEIGHTS}"] if name in made else []


rule embed:
    input:
        stimuli=optional(STIMULI),
        weights=adapted_weights,
    output:
        EMBEDDINGS,
    log:
        f"{LOGS}/embed/enc-{{encoder}}.log",
    benchmark:
        f"{BENCHMARKS}/embed/enc-{{encoder}}.tsv"
    conda:
        ENVIRONMENT
    threads: workflow.cores
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=120,
    params:
        code=code("embed"),
        options=lambda wildcards: as_json(ENCODERS[wildcards.encoder]),
        stimuli=lambda wildcards, input: " ".join(f"--stimuli {s!r}" for s in input.stimuli),
        cache=f"{STUDY.results}/cache/embed",
    shell:
        "braindecode-clip embed {params.stimuli} --options {params.options:q}"
        " --cache {params.cache:q} --threads {threads} --out {output:q} > {log:q} 2>&1"
