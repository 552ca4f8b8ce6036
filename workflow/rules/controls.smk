# Whether identification could be spurious, by controls whose answer is known (controls.enabled).
rule controls:
    input:
        voxels=result("voxels"),
        embeddings=EMBEDDINGS,
        predictions=every_decoder("predictions"),
        decoders=every_decoder("decoder"),
    output:
        controls=result("controls"),
        table=result("controls_table"),
    log:
        side_file(LOGS, "controls", TARGETS, "log"),
    benchmark:
        side_file(BENCHMARKS, "controls", TARGETS, "tsv")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=240,
    params:
        code=code("controls"),
        options=options(STUDY.controls),
        predictions=lambda wildcards, input: each("--predictions", input.predictions),
        decoders=lambda wildcards, input: each("--decoder", input.decoders),
        seed=STUDY.seed,
    shell:
        "braindecode-clip controls --voxels {input.voxels:q} --embeddings {input.embeddings:q}"
        " {params.predictions} {params.decoders} --options {params.options:q}"
        " --seed {params.seed} --out {output.controls:q} --out-table {output.table:q}"
        " > {log:q} 2>&1"
