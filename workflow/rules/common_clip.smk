# What the rules of adapted CLIP models and of their audit share.
ADAPTATIONS = {item.name: item for item in STUDY.adaptations}
SCENES_MODEL = "data/models/scenes"
WEIGHTS = "open_clip_model.safetensors"
AUDITED = STUDY.audited
AUDIT_DECODERS = DECODERS if STUDY.audit.decoders == "all" else STUDY.audit.decoders


def model_folder(encoder):
    """The folder of an encoder with both towers."""
    item = {e.name: e for e in STUDY.encoders}[encoder]
    if item.kind == "adapted":
        return adapted_path(RESULTS, adaptation=item.adaptation, control=item.control)
    return SCENES_MODEL if item.kind == "scenes" else item.model


def initial_folder(wildcards):
    """The folder of the model that an adaptation starts from."""
    return model_folder(ADAPTATIONS[wildcards.adaptation].initial)


def initial_weights(wildcards):
    """Its weights, where the study makes them: others are no outputs of a rule."""
    start = ADAPTATIONS[wildcards.adaptation].initial
    made = [e.name for e in STUDY.encoders if e.kind == "adapted"]
    return [f"{model_folder(start)}/{WEIGHTS}"] if start in made else []


def pair_files(wildcards):
    """The files or folders of the pairs; patterns of shards are none."""
    item = ADAPTATIONS[wildcards.adaptation]
    parts = [part for part in (item.pairs, item.validation) if part is not None]
    return [part.source for part in parts if "{" not in part.source]


def pair_flags(wildcards):
    """The pairs and the held-out pairs as flags of clip train."""
    item = ADAPTATIONS[wildcards.adaptation]
    flags = [("--pairs", item.pairs.source), ("--format", item.pairs.format)]
    flags += [("--split", item.pairs.split), ("--images", item.pairs.images)]
    if item.validation is not None:
        flags += [("--validation", item.validation.source)]
        flags += [("--validation-split", item.validation.split)]
        flags += [("--validation-images", item.validation.images)]
    return " ".join(f"{flag} {shlex.quote(value)}" for flag, value in flags if value)


def adapted_weights(wildcards):
    """The weights of an encoder that the study adapts; no file for others."""
    made = [e.name for e in STUDY.encoders if e.kind == "adapted"]
    name = wildcards.encoder
    return [f"{model_folder(name)}/{WEIGHTS}"] if name in made else []


def of_audit(kind):
    """The results of the audited encoders and those that they were adapted from."""
    names = list(dict.fromkeys([*AUDITED, *AUDITED.values()]))
    labels = {**LABELS, "encoder": names, "decoder": AUDIT_DECODERS}
    return expand(result(kind), **labels, gallery=GALLERIES)


def audited_embeddings():
    """Embeddings of each of these encoders, by name."""
    names = dict.fromkeys([*AUDITED, *AUDITED.values()])
    return {name: embeddings_path(RESULTS, encoder=name) for name in names}
