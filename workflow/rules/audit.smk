# Whether decoding with an adapted encoder is better than with the one it was adapted from.


rule audit:
    input:
        retrievals=of_audit("retrieval"),
        reversed_retrievals=of_audit("reverse"),
        predictions=of_audit("predictions"),
        embeddings=list(audited_embeddings().values()),
        leakage=[f"{model_folder(name)}/leakage.json" for name in AUDITED],
        stimuli=optional(STIMULI),
    output:
        result=audit_path(RESULTS, "json"),
        table=audit_path(RESULTS, "tsv"),
    log:
        f"{LOGS}/audit.log",
    benchmark:
        f"{BENCHMARKS}/audit.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=120,
    params:
        code=code("audit"),
        options=options(STUDY.audit),
        pairs=" ".join(f"--pair {name}={start}" for name, start in AUDITED.items()),
        embeddings=lambda wildcards: " ".join(
            f"--embeddings {shlex.quote(f'{name}={path}')}"
            for name, path in audited_embeddings().items()
        ),
        leakage=" ".join(
            f"--leakage {shlex.quote(f'{name}={model_folder(name)}/leakage.json')}"
            for name in AUDITED
        ),
        retrievals=lambda wildcards, input: each("--retrieval", input.retrievals),
        reversed_retrievals=lambda wildcards, input: each("--reverse", input.reversed_retrievals),
        predictions=lambda wildcards, input: each("--predictions", input.predictions),
        seed=STUDY.seed,
    shell:
        "braindecode-clip audit {params.pairs} {params.retrievals} {params.reversed_retrievals}"
        " {params.predictions} {params.embeddings} {params.leakage} --stimuli {input.stimuli:q}"
        " --options {params.options:q} --seed {params.seed} --out {output.result:q}"
        " --out-table {output.table:q} > {log:q} 2>&1"
