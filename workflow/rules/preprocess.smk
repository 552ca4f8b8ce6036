rule mask:
    input:
        bold=runs_without_mask,
    output:
        EPI_MASK,
    log:
        f"{LOGS}/mask/sub-{{subject}}.log",
    benchmark:
        f"{BENCHMARKS}/mask/sub-{{subject}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        code=code("mask"),
        bold=lambda wildcards, input: each("--bold", input.bold),
    shell:
        "braindecode-clip mask {params.bold} --out {output:q} > {log:q} 2>&1"


rule preprocess:
    input:
        unpack(corrected),
        masks=subject_masks,
    output:
        f"{RESULTS}/preprocess/sub-{{subject}}/{{run_name}}_signals.h5",
    log:
        f"{LOGS}/preprocess/sub-{{subject}}/{{run_name}}.log",
    benchmark:
        f"{BENCHMARKS}/preprocess/sub-{{subject}}/{{run_name}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        code=code("preprocess"),
        options=options(STUDY.preprocess),
        run=lambda wildcards: RUNS[wildcards.run_name].run,
        session=lambda wildcards: option("--session", RUNS[wildcards.run_name].session),
        tr_s=lambda wildcards: option("--tr-s", RUNS[wildcards.run_name].tr_s),
        bold=lambda wildcards, input: each("--bold", input.bold),
        masks=lambda wildcards, input: each("--mask", input.masks),
        confounds=lambda wildcards, input: each("--confounds", input.confounds),
    shell:
        "braindecode-clip preprocess {params.bold} {params.masks} {params.confounds}"
        " --subject {wildcards.subject} {params.session} --run {params.run} {params.tr_s}"
        " --options {params.options:q} --out {output:q} > {log:q} 2>&1"
