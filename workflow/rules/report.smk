REPORT = f"{RESULTS}/report/report.html"
LABELS = dict(subject=SUBJECTS, roi=ROIS, split=SPLITS, encoder=ENCODERS, decoder=DECODERS)


def every(pattern):
    """One path for each combination of the study's labels that the pattern names."""
    return expand(pattern, **LABELS, gallery=GALLERIES)


def backgrounds():
    """An image to show maps on for each subject, where there is one."""
    if STUDY.source == "simulate":
        pattern = "derivatives/masks/sub-{subject}/sub-{subject}_desc-mean_T1w.nii.gz"
    else:
        pattern = STUDY.bids.background
    if pattern is None:
        return {}
    return {s: f"{ROOT}/{fill_pattern(pattern, subject=s)}" for s in SUBJECTS}


rule report:
    input:
        metrics=every(result("metrics")),
        retrievals=every(result("retrieval")),
        reversed_retrievals=every(result("reverse")),
        voxels=every(result("voxels")),
        decoders=every(result("decoder")),
        reliability=every(result("reliability")),
        noise_ceiling=every(result("noise_ceiling")),
        pattern=every(result("pattern")),
        dimensions=every(result("dimensions")),
        backgrounds=list(backgrounds().values()),
        stimuli=optional(STIMULI),
    output:
        REPORT,
    log:
        f"{LOGS}/report.log",
    benchmark:
        f"{BENCHMARKS}/report.tsv"
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code("report"),
        study=options(STUDY),
        subjects=" ".join(f"--subject {subject}" for subject in SUBJECTS),
        backgrounds=" ".join(f"--background {s}={p!r}" for s, p in backgrounds().items()),
        stimuli=lambda wildcards, input: " ".join(f"--stimuli {s!r}" for s in input.stimuli),
        results=RESULTS,
    shell:
        "braindecode-clip report --study {params.study:q} --results {params.results:q}"
        " {params.subjects} {params.backgrounds} {params.stimuli} --out {output:q} > {log:q} 2>&1"
