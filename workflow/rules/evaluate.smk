rule evaluate:
    input:
        retrieval=result("retrieval"),
        reversed_retrieval=result("reverse"),
        predictions=result("predictions"),
        embeddings=EMBEDDINGS,
        stimuli=optional(STIMULI),
        voxels=result("voxels"),
        decoder=result("decoder"),
    output:
        metrics=result("metrics"),
        table=result("metrics_table"),
        item_table=result("items"),
        dimensions=result("dimension_table"),
    log:
        side_file(LOGS, "evaluate", RANKING, "log"),
    benchmark:
        side_file(BENCHMARKS, "evaluate", RANKING, "tsv")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        code=code("evaluate"),
        options=options(STUDY.evaluate),
        seed=STUDY.seed,
        stimuli=lambda wildcards, input: " ".join(f"--stimuli {s!r}" for s in input.stimuli),
    shell:
        "braindecode-clip evaluate --retrieval {input.retrieval:q} --reverse {input.reversed_retrieval:q}"
        " --predictions {input.predictions:q} --embeddings {input.embeddings:q}"
        " --voxels {input.voxels:q} --decoder {input.decoder:q}"
        " --options {params.options:q} --seed {params.seed} --out {output.metrics:q}"
        " --out-table {output.table:q} --out-items {output.item_table:q}"
        " --out-dimensions {output.dimensions:q} {params.stimuli} > {log:q} 2>&1"
