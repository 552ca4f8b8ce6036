rule quality:
    input:
        signals=f"{RESULTS}/preprocess/sub-{{subject}}/{{run_name}}_signals.h5",
        betas=f"{RESULTS}/betas/sub-{{subject}}/{{run_name}}_betas.h5",
    output:
        record=f"{QUALITY}/sub-{{subject}}/{{run_name}}_quality.h5",
        json=f"{QUALITY}/sub-{{subject}}/{{run_name}}_quality.json",
        table=f"{QUALITY}/sub-{{subject}}/{{run_name}}_quality.tsv",
        figure=f"{QUALITY}/sub-{{subject}}/{{run_name}}_quality.png",
        tsnr=f"{QUALITY}/sub-{{subject}}/{{run_name}}_tsnr.{MAP_ENDING}",
    log:
        f"{LOGS}/quality/sub-{{subject}}/{{run_name}}.log",
    benchmark:
        f"{BENCHMARKS}/quality/sub-{{subject}}/{{run_name}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=30,
    params:
        code=code("quality"),
    shell:
        "braindecode-clip quality --signals {input.signals:q} --betas {input.betas:q}"
        " --out {output.record:q} > {log:q} 2>&1"
