rule preprocess:
    input:
        bold=lambda wildcards: RUNS[wildcards.run_name].bold,
        masks=subject_masks,
        confounds=lambda wildcards: optional(RUNS[wildcards.run_name].confounds),
        # fMRIPrep's JSON beside the confounds; that of the simulation comes with its table.
        sidecars=lambda wildcards: confound_sidecars(RUNS[wildcards.run_name].confounds),
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
        masks=lambda wildcards, input: " ".join(f"--mask {mask!r}" for mask in input.masks),
        confounds=lambda wildcards, input: " ".join(f"--confounds {c!r}" for c in input.confounds),
    shell:
        "braindecode-clip preprocess --bold {input.bold:q} {params.masks} {params.confounds}"
        " --subject {wildcards.subject} {params.session} --run {params.run} {params.tr_s}"
        " --options {params.options:q} --out {output:q} > {log:q} 2>&1"
