rule gallery:
    input:
        sources=lambda wildcards: candidate_files(WANTED[wildcards.wanted]),
        weights=adapted_weights,
    output:
        candidates_path(RESULTS, encoder="{encoder}", wanted="{wanted}"),
    log:
        f"{LOGS}/gallery/enc-{{encoder}}_{{wanted}}.log",
    benchmark:
        f"{BENCHMARKS}/gallery/enc-{{encoder}}_{{wanted}}.tsv"
    wildcard_constraints:
        wanted="(gal|search)-[A-Za-z0-9-]+",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=240,
    params:
        code=code("gallery"),
        candidates=lambda wildcards: as_json(WANTED[wildcards.wanted]),
        options=lambda wildcards: as_json(ENCODERS[wildcards.encoder]),
        # Undeclared: Snakemake deletes the outputs of a failed job, and a retry goes on from here.
        state=f"{RESULTS}/gallery-state/enc-{{encoder}}_{{wanted}}.d",
    shell:
        "braindecode-clip gallery --candidates {params.candidates:q} --options {params.options:q}"
        " --state {params.state:q} --out {output:q} > {log:q} 2>&1"
