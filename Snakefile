# From volumes to identification accuracy. Defaults stand in config/config.yaml; a study's own
# file is laid over it:  snakemake --profile profiles/default --configfile config/demo.yaml
from snakemake.utils import min_version, validate

min_version("9.0")


configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/common_clip.smk"


validate(config, "workflow/schemas/config.schema.json", set_default=False)


wildcard_constraints:
    subject="[A-Za-z0-9]+",
    run_name="sub-[A-Za-z0-9]+(_ses-[A-Za-z0-9]+)?_task-[A-Za-z0-9]+_run-[A-Za-z0-9]+",
    roi="[A-Za-z0-9-]+",
    split="[A-Za-z0-9-]+",
    encoder="[A-Za-z0-9-]+",
    decoder="[A-Za-z0-9-]+",
    gallery="[A-Za-z0-9-]+",
    search="[A-Za-z0-9-]+",


include: "workflow/rules/simulate.smk"
include: "workflow/rules/realign.smk"
include: "workflow/rules/preprocess.smk"
include: "workflow/rules/tune.smk"
include: "workflow/rules/betas.smk"
include: "workflow/rules/quality.smk"
include: "workflow/rules/voxels.smk"
include: "workflow/rules/clip_adapt.smk"
include: "workflow/rules/embed.smk"
include: "workflow/rules/decode.smk"
include: "workflow/rules/bottleneck.smk"
include: "workflow/rules/importance.smk"
include: "workflow/rules/surface.smk"
include: "workflow/rules/gallery.smk"
include: "workflow/rules/retrieve.smk"
include: "workflow/rules/nearest.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/card.smk"
include: "workflow/rules/controls.smk"
include: "workflow/rules/group.smk"
include: "workflow/rules/audit.smk"
include: "workflow/rules/interpret.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/clip.smk"
include: "workflow/rules/clip_style.smk"


rule all:
    default_target: True
    input:
        REPORT,
        curves(),
        searches(),
        every(result("card")) if STUDY.cards.enabled else [],
        groups("group.json"),


rule clip:
    input:
        CLIP_METRICS,
