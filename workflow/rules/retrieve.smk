rule retrieve:
    input:
        predictions=result("predictions"),
        embeddings=EMBEDDINGS,
        distractors=distractors_of,
        tokens=tokens_of,
        training=lambda wildcards: training_of(
            wildcards, GALLERIES[wildcards.gallery].options(STUDY.retrieve).needs_training
        ),
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
        distractors=lambda wildcards, input: each("--distractors", input.distractors),
        tokens=lambda wildcards, input: token_flags(input.tokens),
        training=lambda wildcards, input: training_flags(input.training),
    shell:
        "braindecode-clip retrieve --predictions {input.predictions:q}"
        " --embeddings {input.embeddings:q} --gallery {params.gallery:q}"
        " {params.distractors} {params.tokens} {params.training} --options {params.options:q}"
        " --out {output.retrieval:q}"
        " --out-reverse {output.reversed_retrieval:q} > {log:q} 2>&1"
