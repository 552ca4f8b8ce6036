rule betas:
    input:
        signals=f"{RESULTS}/preprocess/sub-{{subject}}/{{run_name}}_signals.h5",
        events=lambda wildcards: RUNS[wildcards.run_name].events,
        tuning=lambda wildcards: [TUNING] if STUDY.betas.needs_tuning else [],
    output:
        f"{RESULTS}/betas/sub-{{subject}}/{{run_name}}_betas.h5",
    log:
        f"{LOGS}/betas/sub-{{subject}}/{{run_name}}.log",
    benchmark:
        f"{BENCHMARKS}/betas/sub-{{subject}}/{{run_name}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        code=code("betas"),
        options=options(STUDY.betas),
        tuning=lambda wildcards, input: each("--tuning", input.tuning),
    shell:
        "braindecode-clip betas --signals {input.signals:q} --events {input.events:q}"
        " {params.tuning} --options {params.options:q} --out {output:q} > {log:q} 2>&1"
