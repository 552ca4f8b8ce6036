rule retrieve:
    input:
        predictions=result("predictions"),
        embeddings=EMBEDDINGS,
    output:
        retrieval=result("retrieval"),
        reverse=result("reverse"),
    log:
        side_file(LOGS, "retrieve", RANKING, "log"),
    benchmark:
        side_file(BENCHMARKS, "retrieve", RANKING, "tsv")
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        code=code("retrieve"),
        options=options(STUDY.retrieve),
        gallery=lambda wildcards: options(GALLERIES[wildcards.gallery]),
    shell:
        "braindecode-clip retrieve --predictions {input.predictions:q}"
        " --embeddings {input.embeddings:q} --gallery {params.gallery:q}"
        " --options {params.options:q} --out {output.retrieval:q}"
        " --out-reverse {output.reverse:q} > {log:q} 2>&1"
