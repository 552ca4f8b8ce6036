# Raw runs without fMRIPrep (realign.enabled): every run onto one reference image of its subject.


rule realign_reference:
    input:
        bold=lambda wildcards: list(first_run(wildcards).bold),
    output:
        f"{REALIGNED}/sub-{{subject}}_boldref.nii.gz",
    log:
        f"{LOGS}/realign/sub-{{subject}}_boldref.log",
    benchmark:
        f"{BENCHMARKS}/realign/sub-{{subject}}_boldref.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=30,
    params:
        code=code("realign"),
        options=options(STUDY.realign),
        tr_s=lambda wildcards: option("--tr-s", first_run(wildcards).tr_s),
    shell:
        "braindecode-clip realign --bold {input.bold:q} {params.tr_s}"
        " --options {params.options:q} --out-reference {output:q} > {log:q} 2>&1"


rule realign:
    input:
        bold=lambda wildcards: list(RUNS[wildcards.run_name].bold),
        sidecars=lambda wildcards: list(RUNS[wildcards.run_name].sidecars),
        reference=f"{REALIGNED}/sub-{{subject}}_boldref.nii.gz" if STUDY.realign.motion else [],
    output:
        bold=f"{REALIGNED}/{{run_name}}_desc-realigned_bold.nii.gz",
        bold_json=f"{REALIGNED}/{{run_name}}_desc-realigned_bold.json",
        confounds=f"{REALIGNED}/{{run_name}}_desc-confounds_timeseries.tsv",
        confounds_json=f"{REALIGNED}/{{run_name}}_desc-confounds_timeseries.json",
    log:
        f"{LOGS}/realign/sub-{{subject}}/{{run_name}}.log",
    benchmark:
        f"{BENCHMARKS}/realign/sub-{{subject}}/{{run_name}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=120,
    params:
        code=code("realign"),
        options=options(STUDY.realign),
        tr_s=lambda wildcards: option("--tr-s", RUNS[wildcards.run_name].tr_s),
        sidecars=lambda wildcards, input: each("--sidecar", input.sidecars),
        reference=lambda wildcards, input: " ".join(
            f"--reference {image!r}" for image in optional(input.get("reference") or None)
        ),
    shell:
        "braindecode-clip realign --bold {input.bold:q} {params.reference} {params.sidecars}"
        " {params.tr_s} --options {params.options:q} --out-bold {output.bold:q}"
        " --out-confounds {output.confounds:q} > {log:q} 2>&1"
