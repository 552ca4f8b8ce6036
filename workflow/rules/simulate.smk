rule simulate_stimuli:
    output:
        f"{SIMULATED}/stimuli/stimuli.tsv",
    log:
        f"{LOGS}/simulate_stimuli.log",
    benchmark:
        f"{BENCHMARKS}/simulate_stimuli.tsv"
    resources:
        mem_mb=500,
        runtime=10,
    params:
        code=code("simulate"),
        options=options(STUDY.simulate),
        seed=STUDY.seed,
        out=SIMULATED,
    shell:
        "braindecode-clip simulate stimuli --options {params.options:q} --seed {params.seed}"
        " --out {params.out:q} > {log:q} 2>&1"


def simulated_files():
    """All that the simulation of one subject writes, with {subject} left open."""
    runs = [simulated_run("{subject}", *run) for run in expected_runs(STUDY.simulate)]
    masks = [fill_pattern(roi.mask, subject="{subject}") for roi in STUDY.rois]
    return {
        "bold": [run.bold for run in runs],
        "events": [run.events for run in runs],
        "confounds": [run.confounds for run in runs],
        "mask": runs[0].mask,
        "rois": [f"{SIMULATED}/{mask}" for mask in masks],
        "anatomy": f"{SIMULATED}/derivatives/masks/sub-{{subject}}/sub-{{subject}}_desc-mean_T1w.nii.gz",
        "truth": f"{SIMULATED}/derivatives/truth/sub-{{subject}}_truth.h5",
    }


rule simulate_subject:
    input:
        stimuli=f"{SIMULATED}/stimuli/stimuli.tsv",
    output:
        **simulated_files(),
    log:
        f"{LOGS}/simulate_subject/sub-{{subject}}.log",
    benchmark:
        f"{BENCHMARKS}/simulate_subject/sub-{{subject}}.tsv"
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        code=code("simulate"),
        options=options(STUDY.simulate),
        seed=STUDY.seed,
        out=SIMULATED,
    shell:
        "braindecode-clip simulate subject --subject {wildcards.subject} --stimuli {input.stimuli:q}"
        " --options {params.options:q} --seed {params.seed} --out {params.out:q} > {log:q} 2>&1"
