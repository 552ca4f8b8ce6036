# Accuracy against training data, repeats and candidates (surface.enabled).
rule surface:
    input:
        voxels=result("voxels"),
        embeddings=EMBEDDINGS,
    output:
        table=result("surface"),
        figure=result("surface_figure"),
    log:
        side_file(LOGS, "surface", FIT, "log"),
    benchmark:
        side_file(BENCHMARKS, "surface", FIT, "tsv")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=240,
    params:
        code=code("surface"),
        decoder=lambda wildcards: as_json(DECODERS[wildcards.decoder]),
        options=options(STUDY.surface),
        seed=STUDY.seed,
    shell:
        "braindecode-clip surface --voxels {input.voxels:q} --embeddings {input.embeddings:q}"
        " --decoder {params.decoder:q} --options {params.options:q} --seed {params.seed}"
        " --out {output.table:q} --out-figure {output.figure:q} > {log:q} 2>&1"
