rule interpret:
    input:
        voxels=result("voxels"),
        decoder=result("decoder"),
        predictions=result("predictions"),
        embeddings=EMBEDDINGS,
    output:
        reliability=result("reliability"),
        ncsnr=result("ncsnr"),
        noise_ceiling=result("noise_ceiling"),
        pattern=result("pattern"),
        table=result("dimensions"),
    log:
        side_file(LOGS, "interpret", FIT, "log"),
    benchmark:
        side_file(BENCHMARKS, "interpret", FIT, "tsv")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=30,
    params:
        code=code("interpret"),
        options=options(STUDY.interpret),
    shell:
        "braindecode-clip interpret --voxels {input.voxels:q} --decoder {input.decoder:q}"
        " --predictions {input.predictions:q} --embeddings {input.embeddings:q}"
        " --options {params.options:q} --out-reliability {output.reliability:q}"
        " --out-ncsnr {output.ncsnr:q}"
        " --out-noise-ceiling {output.noise_ceiling:q} --out-pattern {output.pattern:q}"
        " --out-table {output.table:q} > {log:q} 2>&1"
