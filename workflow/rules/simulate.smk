rule simulate_stimuli:
    output:
        f"{SIMULATED}/stimuli/stimuli.tsv",
    log:
        f"{LOGS}/simulate_stimuli.log",
    benchmark:
        f"{BENCHMARKS}/simulate_stimuli.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=500,
        runtime=10,
    params:
        code=code("simulate"),
        options=options(STUDY.simulate),
        seed=STUDY.seed,
        out=lambda wildcards, output: str(Path(output[0]).parents[1]),
    shell:
        "braindecode-clip simulate stimuli --options {params.options:q} --seed {params.seed}"
        " --out {params.out:q} > {log:q} 2>&1"


rule simulate_subject:
    input:
        stimuli=f"{SIMULATED}/stimuli/stimuli.tsv",
    output:
        **simulated_files(),
    log:
        f"{LOGS}/simulate_subject/sub-{{subject}}.log",
    benchmark:
        f"{BENCHMARKS}/simulate_subject/sub-{{subject}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        code=code("simulate"),
        options=options(STUDY.simulate),
        seed=STUDY.seed,
        out=lambda wildcards, input: str(Path(input.stimuli).parents[1]),
    shell:
        "braindecode-clip simulate subject --subject {wildcards.subject} --stimuli {input.stimuli:q}"
        " --options {params.options:q} --seed {params.seed} --out {params.out:q} > {log:q} 2>&1"
