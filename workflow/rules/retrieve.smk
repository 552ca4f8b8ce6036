rule retrieve:
    input:
        predictions=result("predictions"),
        embeddings=EMBEDDINGS,
    output:
        retrieval=result("retrieval"),
        reversed_retrieval=result("reverse"),
    log:
        side_file(LOGS, "retrieve", RANKING, "log"),
    benchmark:
        side_file(BENCHMARKS, "retrieve", RANKING, "tsv")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        code=code("retrieve"),
        options=options(STUDY.retrieve),
        gallery=lambda wildcards: as_json(GALLERIES[wildcards.gallery]),
    shell:
        "braindecode-clip retrieve --predictions {input.predictions:q}"
        " --embeddings {input.embeddings:q} --gallery {params.gallery:q}"
        " --options {params.options:q} --out {output.retrieval:q}"
        " --out-reverse {output.reversed_retrieval:q} > {log:q} 2>&1"
