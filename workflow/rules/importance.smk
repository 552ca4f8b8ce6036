# What a decoder loses without one part of the joint ROI (importance.enabled).
rule importance:
    input:
        voxels=result("voxels"),
        parts=lambda wildcards: voxels_of(wildcards, STUDY.importance.parts),
        bands=lambda wildcards: voxels_of(
            wildcards, getattr(DECODERS[wildcards.decoder], "bands", [])
        ),
        embeddings=EMBEDDINGS,
    output:
        result("importance"),
    log:
        side_file(LOGS, "importance", FIT, "log"),
    benchmark:
        side_file(BENCHMARKS, "importance", FIT, "tsv")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=240,
    params:
        code=code("importance"),
        decoder=lambda wildcards: as_json(DECODERS[wildcards.decoder]),
        options=options(STUDY.importance),
        parts=lambda wildcards, input: each("--part", input.parts),
        bands=lambda wildcards, input: each("--band", input.bands),
        seed=STUDY.seed,
    shell:
        "braindecode-clip importance --voxels {input.voxels:q} {params.parts} {params.bands}"
        " --embeddings {input.embeddings:q} --decoder {params.decoder:q}"
        " --options {params.options:q} --seed {params.seed} --out {output:q} > {log:q} 2>&1"
