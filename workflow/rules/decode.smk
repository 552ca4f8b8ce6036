rule decode:
    input:
        voxels=result("voxels"),
        embeddings=EMBEDDINGS,
        bands=lambda wildcards: voxels_of(
            wildcards, getattr(DECODERS[wildcards.decoder], "bands", [])
        ),
    output:
        predictions=result("predictions"),
        decoder=result("decoder"),
    log:
        side_file(LOGS, "decode", FIT, "log"),
    benchmark:
        side_file(BENCHMARKS, "decode", FIT, "tsv")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=240,
    params:
        code=code("decode"),
        bands=lambda wildcards, input: each("--band", input.bands),
        options=lambda wildcards: as_json(DECODERS[wildcards.decoder]),
        seed=STUDY.seed,
    shell:
        "braindecode-clip decode --voxels {input.voxels:q} --embeddings {input.embeddings:q}"
        " {params.bands} --options {params.options:q} --seed {params.seed} --out {output.predictions:q}"
        " --out-decoder {output.decoder:q} > {log:q} 2>&1"
