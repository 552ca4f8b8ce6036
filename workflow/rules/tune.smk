TUNING = f"{RESULTS}/tune/sub-{{subject}}/sub-{{subject}}_tuning.h5"


rule tune:
    input:
        signals=lambda wildcards: [
            f"{RESULTS}/preprocess/sub-{wildcards.subject}/{name}_signals.h5"
            for name in subject_runs(wildcards)
        ],
        events=lambda wildcards: [RUNS[name].events for name in subject_runs(wildcards)],
        stimuli=optional(STIMULI),
    output:
        TUNING,
    log:
        f"{LOGS}/tune/sub-{{subject}}.log",
    benchmark:
        f"{BENCHMARKS}/tune/sub-{{subject}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=120,
    params:
        code=code("tune"),
        options=options(STUDY.betas),
        signals=lambda wildcards, input: " ".join(f"--signals {s!r}" for s in input.signals),
        events=lambda wildcards, input: " ".join(f"--events {e!r}" for e in input.events),
        stimuli=lambda wildcards, input: " ".join(f"--stimuli {s!r}" for s in input.stimuli),
    shell:
        "braindecode-clip tune {params.signals} {params.events} {params.stimuli}"
        " --options {params.options:q} --out {output:q} > {log:q} 2>&1"
