rule voxels:
    input:
        betas=lambda wildcards: [
            f"{RESULTS}/betas/sub-{wildcards.subject}/{name}_betas.h5"
            for name in subject_runs(wildcards)
        ],
        roi_masks=roi_masks,
        stimuli=optional(STIMULI),
    output:
        result("voxels"),
    log:
        side_file(LOGS, "voxels", MATRIX, "log"),
    benchmark:
        side_file(BENCHMARKS, "voxels", MATRIX, "tsv")
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=30,
    params:
        code=code("voxels"),
        options=options(STUDY.voxels),
        split=lambda wildcards: as_json(SPLITS[wildcards.split]),
        roi_masks=lambda wildcards, input: each("--roi-mask", input.roi_masks),
        stimuli=lambda wildcards, input: " ".join(f"--stimuli {s!r}" for s in input.stimuli),
    shell:
        "braindecode-clip voxels {input.betas:q} --roi {wildcards.roi} {params.roi_masks}"
        " --split {params.split:q} --options {params.options:q} {params.stimuli}"
        " --out {output:q} > {log:q} 2>&1"
