# Identification against the rank of the map from voxels to embedding (bottleneck.enabled).
rule bottleneck:
    input:
        voxels=result("voxels"),
        embeddings=EMBEDDINGS,
    output:
        result("bottleneck"),
    log:
        side_file(LOGS, "bottleneck", TARGETS, "log"),
    benchmark:
        side_file(BENCHMARKS, "bottleneck", TARGETS, "tsv")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=240,
    params:
        code=code("bottleneck"),
        options=options(STUDY.bottleneck),
        seed=STUDY.seed,
    shell:
        "braindecode-clip bottleneck --voxels {input.voxels:q} --embeddings {input.embeddings:q}"
        " --options {params.options:q} --seed {params.seed} --out {output:q} > {log:q} 2>&1"
