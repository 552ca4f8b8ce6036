# The stimulus table tells training trials apart where every split is by stimulus; a split that
# holds out runs or categories tests on trials of its training stimuli, so no label may be used.
BY_STIMULUS = all(split.scheme == "stimulus" for split in SPLITS.values())
TUNED = f"{RESULTS}/tune/sub-{{subject}}/sub-{{subject}}"
TUNING = f"{TUNED}_tuning.h5"


rule tune:
    input:
        signals=lambda wildcards: [
            f"{RESULTS}/preprocess/sub-{wildcards.subject}/{name}_signals.h5"
            for name in subject_runs(wildcards)
        ],
        events=lambda wildcards: [RUNS[name].events for name in subject_runs(wildcards)],
        stimuli=optional(STIMULI if BY_STIMULUS else None),
    output:
        tuning=TUNING,
        maps=[f"{TUNED}_{name}.{MAP_ENDING}" for name in ("peak", "r2", "penalty")],
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
        signals=lambda wildcards, input: each("--signals", input.signals),
        events=lambda wildcards, input: each("--events", input.events),
        stimuli=lambda wildcards, input: each("--stimuli", input.stimuli),
    shell:
        "braindecode-clip tune {params.signals} {params.events} {params.stimuli}"
        " --options {params.options:q} --out {output.tuning:q} > {log:q} 2>&1"
