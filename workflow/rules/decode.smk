rule decode:
    input:
        voxels=result("voxels"),
        embeddings=EMBEDDINGS,
        members=member_decoders,
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
    wildcard_constraints:
        decoder=names_of_kind(DECODERS, shared=False),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=240,
    params:
        code=code("decode"),
        members=lambda wildcards, input: each("--member", input.get("members", [])),
        bands=lambda wildcards, input: each("--band", input.bands),
        options=lambda wildcards: as_json(DECODERS[wildcards.decoder]),
        seed=STUDY.seed,
        # Undeclared: Snakemake deletes the outputs of a failed job, and a retry goes on from here.
        state=side_file(f"{RESULTS}/decode-state", "decode", FIT, "d"),
    shell:
        "braindecode-clip decode --voxels {input.voxels:q} --embeddings {input.embeddings:q}"
        " {params.members} {params.bands}"
        " --options {params.options:q} --seed {params.seed} --state {params.state:q} --out {output.predictions:q}"
        " --out-decoder {output.decoder:q} > {log:q} 2>&1"


rule decode_shared:
    input:
        voxels=expand(result("voxels"), subject=SUBJECTS, allow_missing=True),
        embeddings=EMBEDDINGS,
    output:
        predictions=expand(result("predictions"), subject=SUBJECTS, allow_missing=True),
        decoders=expand(result("decoder"), subject=SUBJECTS, allow_missing=True),
    log:
        all_subjects(side_file(LOGS, "decode", FIT, "log")),
    benchmark:
        all_subjects(side_file(BENCHMARKS, "decode", FIT, "tsv"))
    wildcard_constraints:
        decoder=names_of_kind(DECODERS, shared=True),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=240,
    params:
        code=code("decode_shared"),
        options=lambda wildcards: as_json(DECODERS[wildcards.decoder]),
        out=lambda wildcards, output: each("--out", output.predictions),
        out_decoder=lambda wildcards, output: each("--out-decoder", output.decoders),
    shell:
        "braindecode-clip decode-shared {input.voxels:q} --embeddings {input.embeddings:q}"
        " --options {params.options:q} {params.out} {params.out_decoder} > {log:q} 2>&1"


rule calibration_curve:
    input:
        voxels=result("voxels"),
        others=lambda wildcards: [
            result("voxels").format(**{**wildcards, "subject": subject})
            for subject in SUBJECTS
            if subject != wildcards.subject
        ],
        embeddings=EMBEDDINGS,
        signals=lambda wildcards: (
            []
            if STUDY.calibration_curve.trial_s
            else [
                f"{RESULTS}/preprocess/sub-{wildcards.subject}/{name}_signals.h5"
                for name in subject_runs(wildcards)
            ]
        ),
    output:
        table=result("curve"),
        figure=result("curve_figure"),
    log:
        side_file(LOGS, "calibration_curve", FIT, "log"),
    benchmark:
        side_file(BENCHMARKS, "calibration_curve", FIT, "tsv")
    wildcard_constraints:
        decoder=names_of_kind(DECODERS, shared=True),
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=240,
    params:
        code=code("calibration_curve"),
        options=lambda wildcards: as_json(DECODERS[wildcards.decoder]),
        others=lambda wildcards, input: each("--other", input.others),
        signals=lambda wildcards, input: each("--signals", input.get("signals", [])),
        trial_s=option("--trial-s", STUDY.calibration_curve.trial_s),
        max_minutes=option("--max-minutes", STUDY.calibration_curve.max_minutes),
        points=STUDY.calibration_curve.points,
        seed=STUDY.seed,
    shell:
        "braindecode-clip calibration-curve {input.voxels:q} {params.others}"
        " --embeddings {input.embeddings:q} {params.signals} {params.trial_s} {params.max_minutes}"
        " --points {params.points}"
        " --options {params.options:q} --seed {params.seed} --out {output.table:q}"
        " --out-figure {output.figure:q} > {log:q} 2>&1"
