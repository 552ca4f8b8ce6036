rule decode:
    input:
        voxels=result("voxels"),
        embeddings=EMBEDDINGS,
        members=member_decoders,
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
        members=lambda wildcards, input: each("--member", input.get("members", [])),
        options=lambda wildcards: as_json(DECODERS[wildcards.decoder]),
        seed=STUDY.seed,
        # Undeclared: Snakemake deletes the outputs of a failed job, and a retry goes on from here.
        state=side_file(f"{RESULTS}/decode-state", "decode", FIT, "d"),
    shell:
        "braindecode-clip decode --voxels {input.voxels:q} --embeddings {input.embeddings:q}"
        " {params.members}"
        " --options {params.options:q} --seed {params.seed} --state {params.state:q} --out {output.predictions:q}"
        " --out-decoder {output.decoder:q} > {log:q} 2>&1"
