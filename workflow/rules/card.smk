# What every number is a number of (cards.enabled).
rule card:
    input:
        metrics=result("metrics"),
        predictions=result("predictions"),
        voxels=result("voxels"),
        retrieval=result("retrieval"),
        reversed_retrieval=result("reverse"),
    output:
        card=result("card"),
        text=result("card_text"),
    log:
        side_file(LOGS, "card", RANKING, "log"),
    benchmark:
        side_file(BENCHMARKS, "card", RANKING, "tsv")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        code=code("card"),
        dataset=STUDY.cards.dataset or STUDY.study,
    shell:
        "braindecode-clip card --metrics {input.metrics:q} --predictions {input.predictions:q}"
        " --voxels {input.voxels:q} --retrieval {input.retrieval:q}"
        " --reverse {input.reversed_retrieval:q} --dataset {params.dataset:q}"
        " --out {output.card:q} --out-text {output.text:q} > {log:q} 2>&1"
