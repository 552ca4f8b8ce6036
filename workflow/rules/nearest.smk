rule nearest:
    input:
        predictions=result("predictions"),
        candidates=searched,
        stimuli=lambda wildcards: optional(
            STIMULI if SEARCHES[wildcards.search].true_column else None
        ),
        training=lambda wildcards: training_of(
            wildcards,
            SEARCHES[wildcards.search].options(STUDY.retrieve).needs_inductive_correction,
        ),
    output:
        table=result("nearest"),
        samples=result("nearest_samples"),
        facts=result("nearest_facts"),
    log:
        side_file(LOGS, "nearest", SEARCH, "log"),
    benchmark:
        side_file(BENCHMARKS, "nearest", SEARCH, "tsv")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=60,
    params:
        code=code("nearest"),
        options=options(STUDY.retrieve),
        search=lambda wildcards: as_json(SEARCHES[wildcards.search]),
        stimuli=lambda wildcards, input: each("--stimuli", input.stimuli),
        training=lambda wildcards, input: training_flags(input.training),
    shell:
        "braindecode-clip nearest --predictions {input.predictions:q}"
        " --candidates {input.candidates:q} --search {params.search:q}"
        " {params.stimuli} {params.training} --options {params.options:q} --out {output.table:q}"
        " --out-samples {output.samples:q} --out-facts {output.facts:q} > {log:q} 2>&1"
