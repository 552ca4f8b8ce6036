# All subjects, ROIs and decoders of one split, encoder and gallery.
rule group:
    input:
        retrievals=lambda wildcards: of_group("retrieval", wildcards),
        reversed_retrievals=lambda wildcards: of_group("reverse", wildcards),
        predictions=lambda wildcards: of_group("predictions", wildcards),
    output:
        result=group_file("group.json"),
        table=group_file("group.tsv"),
        pairs=group_file("pairs.tsv"),
    log:
        f"{LOGS}/group/{GROUP_STEM}.log",
    benchmark:
        f"{BENCHMARKS}/group/{GROUP_STEM}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=60,
    params:
        code=code("group"),
        options=options(STUDY.group),
        retrievals=lambda wildcards, input: each("--retrieval", input.retrievals),
        reversed_retrievals=lambda wildcards, input: each("--reverse", input.reversed_retrievals),
        predictions=lambda wildcards, input: each("--predictions", input.predictions),
        seed=STUDY.seed,
    shell:
        "braindecode-clip group {params.retrievals} {params.reversed_retrievals}"
        " {params.predictions} --options {params.options:q} --seed {params.seed}"
        " --out {output.result:q} --out-table {output.table:q} --out-pairs {output.pairs:q}"
        " > {log:q} 2>&1"
