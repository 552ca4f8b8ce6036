rule report:
    input:
        metrics=every(result("metrics")),
        retrievals=every(result("retrieval")),
        reversed_retrievals=every(result("reverse")),
        voxels=every(result("voxels")),
        decoders=every(result("decoder")),
        comparison=comparison_path(RESULTS),
        group=groups("group.json"),
        audit=[audit_path(RESULTS, "json")] if STUDY.audited else [],
        bottleneck=every(result("bottleneck")) if STUDY.bottleneck.enabled else [],
        importance=importance_tables(),
        controls=every(result("controls")) if STUDY.controls.enabled else [],
        curves=curves(),
        surfaces=surfaces(),
        reliability=every(result("reliability")),
        noise_ceiling=every(result("noise_ceiling")),
        pattern=every(result("pattern")),
        dimensions=every(result("dimensions")),
        quality=[f"{QUALITY}/sub-{run.subject}/{name}_quality.h5" for name, run in RUNS.items()],
        backgrounds=list(backgrounds().values()),
        stimuli=optional(STIMULI),
    output:
        REPORT,
    log:
        f"{LOGS}/report.log",
    benchmark:
        f"{BENCHMARKS}/report.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code("report"),
        study=options(STUDY),
        subjects=" ".join(f"--subject {subject}" for subject in SUBJECTS),
        backgrounds=" ".join(f"--background {s}={p!r}" for s, p in backgrounds().items()),
        stimuli=lambda wildcards, input: " ".join(f"--stimuli {s!r}" for s in input.stimuli),
        results=lambda wildcards, output: str(Path(output[0]).parents[1]),
        map_ending=MAP_ENDING,
    shell:
        "braindecode-clip report --study {params.study:q} --results {params.results:q}"
        " {params.subjects} {params.backgrounds} {params.stimuli} --map-ending {params.map_ending}"
        " --out {output:q} > {log:q} 2>&1"
