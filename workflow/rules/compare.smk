rule compare:
    input:
        decoders=every(result("decoder")),
        metrics=every(result("metrics")),
    output:
        comparison_path(RESULTS),
    log:
        f"{LOGS}/compare.log",
    benchmark:
        f"{BENCHMARKS}/compare.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        code=code("compare"),
        decoders=lambda wildcards, input: each("--decoder", input.decoders),
        metrics=lambda wildcards, input: each("--metrics", input.metrics),
    shell:
        "braindecode-clip compare {params.decoders} {params.metrics} --out {output:q} > {log:q} 2>&1"
