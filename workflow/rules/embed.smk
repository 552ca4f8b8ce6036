EMBEDDINGS = embeddings_path(RESULTS, encoder="{encoder}")


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
