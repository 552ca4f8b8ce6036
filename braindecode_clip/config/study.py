"""The config of a whole study, and its JSON schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from braindecode_clip.checks import some
from braindecode_clip.config.adaptations import (
    AdaptationConfig,
    AuditConfig,
    check_adaptations,
    with_controls,
)
from braindecode_clip.config.base import Section, parse_section
from braindecode_clip.config.betas import BetasConfig
from braindecode_clip.config.cards import CardsConfig
from braindecode_clip.config.controls import ControlsConfig
from braindecode_clip.config.datasets import LABEL, BidsConfig, RoiConfig
from braindecode_clip.config.decode import CurveConfig, EnsembleConfig
from braindecode_clip.config.decode_extras import BottleneckConfig, ImportanceConfig
from braindecode_clip.config.decoders import DecoderConfig
from braindecode_clip.config.embed import EncoderConfig
from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.config.group import GroupConfig
from braindecode_clip.config.interpret import InterpretConfig
from braindecode_clip.config.nearest import SearchConfig
from braindecode_clip.config.preprocess import PreprocessConfig
from braindecode_clip.config.realign import RealignConfig
from braindecode_clip.config.report import ReportConfig
from braindecode_clip.config.retrieve import GalleryConfig, RetrieveConfig
from braindecode_clip.config.simulate import SimulateConfig
from braindecode_clip.config.surface import SurfaceConfig
from braindecode_clip.config.voxels import SplitConfig, VoxelsConfig

#: Kinds of decoders that take token targets.
TOKEN_KINDS = ("ridge", "contrastive", "mlp")
SCHEMA_URI = "https://json-schema.org/draft/2020-12/schema"


class StudyConfig(Section):
    """Everything that a study is made of: the science, never the machine."""

    study: str = Field(pattern=LABEL, description="Name of the study; its results folder.")
    results: str = Field("results", description="Folder of all results.")
    seed: int = Field(2026, ge=0, description="Master seed; every random stream derives from it.")
    source: Literal["simulate", "bids", "table"] = Field(
        "bids",
        description="'simulate' makes the embedded data set; 'bids' finds yours in BIDS or "
        "fMRIPrep folders; 'table' reads the files that `runs` lists.",
    )
    simulate: SimulateConfig = Field(
        default_factory=SimulateConfig, description="The embedded data set (source: simulate)."
    )
    bids: BidsConfig = Field(
        default_factory=BidsConfig, description="Your data set (source: bids)."
    )
    runs: str = Field(
        "config/runs.tsv",
        description="Table of your runs (source: table), tab-separated: subject, bold, events; "
        "optional session, run, task, mask (volumes need one; 'epi' computes it), confounds, tr_s "
        "(seconds). Labels without prefix; paths relative to the table's folder; the hemispheres "
        "of a run (GIFTI) separated by a comma; lines that begin with # are comments.",
    )
    stimuli: str | None = Field(
        None,
        description="TSV of the stimuli: stimulus_id, image (path beside the table), caption, "
        "split. Null when the targets come from precomputed vectors alone.",
    )
    rois: list[RoiConfig] = Field(min_length=1, description="Regions to decode from.")
    realign: RealignConfig = Field(
        default_factory=RealignConfig, description="Raw runs, where there is no fMRIPrep."
    )
    preprocess: PreprocessConfig = Field(
        default_factory=PreprocessConfig, description="Volumes to cleaned signals."
    )
    betas: BetasConfig = Field(
        default_factory=BetasConfig, description="Signals to one response for each trial."
    )
    voxels: VoxelsConfig = Field(
        default_factory=VoxelsConfig, description="Selection, scaling, averaging."
    )
    splits: list[SplitConfig] = Field(min_length=1, description="Ways to split train and test.")
    encoders: list[EncoderConfig] = Field(min_length=1, description="Target embeddings.")
    adaptations: list[AdaptationConfig] = Field(
        default_factory=list,
        description="CLIP models that the study adapts; encoders of kind 'adapted' use them.",
    )
    decoders: list[DecoderConfig] = Field(min_length=1, description="Regressors.")
    calibration_curve: CurveConfig = Field(
        default_factory=CurveConfig, description="Accuracy against minutes of data."
    )
    bottleneck: BottleneckConfig = Field(
        default_factory=BottleneckConfig, description="Identification against the decoder's rank."
    )
    importance: ImportanceConfig = Field(
        default_factory=ImportanceConfig, description="What is lost without one part of an ROI."
    )
    surface: SurfaceConfig = Field(
        default_factory=SurfaceConfig,
        description="Accuracy against training data, repeats and candidates; of encoders whose "
        "targets are pooled.",
    )
    galleries: list[GalleryConfig] = Field(min_length=1, description="Candidate sets.")
    retrieve: RetrieveConfig = Field(default_factory=RetrieveConfig, description="Ranking.")
    searches: list[SearchConfig] = Field(
        default_factory=list,
        description="Open searches: what is nearest to a prediction among pictures or texts.",
    )
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig, description="Statistics.")
    controls: ControlsConfig = Field(
        default_factory=ControlsConfig, description="Whether identification could be spurious."
    )
    cards: CardsConfig = Field(default_factory=CardsConfig, description="Result cards.")
    group: GroupConfig = Field(
        default_factory=GroupConfig, description="Over subjects, ROIs and decoders."
    )
    audit: AuditConfig = Field(
        default_factory=AuditConfig, description="Whether adapting an encoder helped decoding."
    )
    interpret: InterpretConfig = Field(default_factory=InterpretConfig, description="Maps.")
    report: ReportConfig = Field(default_factory=ReportConfig, description="The HTML page.")

    @property
    def audited(self) -> dict[str, str]:
        """Each adapted encoder that is audited, to the encoder that it was adapted from."""
        start = {item.name: item.initial for item in self.adaptations}
        return {
            item.name: start[str(item.adaptation)]
            for item in self.encoders
            if self.audit.enabled and item.kind == "adapted"
        }

    @property
    def surface_labels(self) -> dict[str, list[str]]:
        """ROIs, encoders and decoders whose accuracy surface is measured; empty where none is."""
        if not self.surface.enabled:
            return {"roi": [], "encoder": [], "decoder": []}
        return {
            "roi": self.surface.rois or [item.name for item in self.rois],
            "encoder": [item.name for item in self.encoders if item.targets == "pooled"],
            "decoder": self.surface.decoders,
        }

    @property
    def single_decoders(self) -> list[str]:
        """Names of the decoders that are fitted on one subject, and on no other decoder."""
        return [item.name for item in self.decoders if item.kind not in ("ensemble", "shared")]

    @model_validator(mode="after")
    def _adaptations_have_encoders(self) -> StudyConfig:
        has_stimuli = self.source == "simulate" or self.stimuli is not None
        check_adaptations(self.adaptations, self.encoders, has_stimuli=has_stimuli)
        self.encoders[:] = with_controls(self.encoders, self.adaptations)
        wanted = self.audit.decoders
        known = [item.name for item in self.decoders]
        unknown = [] if isinstance(wanted, str) else sorted(set(wanted) - set(known))
        if unknown:
            raise ValueError(
                f"'audit.decoders' names {some(unknown)}, no decoders of the study; known are "
                f"{some(known)}"
            )
        return self

    @model_validator(mode="after")
    def _names_are_unique(self) -> StudyConfig:
        sections = ("rois", "splits", "encoders", "adaptations", "decoders", "galleries")
        for section in (*sections, "searches"):
            names = [item.name for item in getattr(self, section)]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"names in '{section}' must differ; more than once: {some(twice)}")
        return self

    @model_validator(mode="after")
    def _ensembles_have_members(self) -> StudyConfig:
        single = [
            item.name
            for item in self.decoders
            if item.kind not in ("ensemble", "shared") and item.calibration != "transductive"
        ]
        for item in self.decoders:
            if isinstance(item, EnsembleConfig):
                unknown = sorted(set(item.members) - set(single))
                if unknown or len(set(item.members)) < len(item.members):
                    raise ValueError(
                        f"the members of decoder '{item.name}' must be different ones of the "
                        f"single decoders {some(single)}; got {some(list(item.members))}"
                    )
        return self

    @model_validator(mode="after")
    def _tokens_have_decoders(self) -> StudyConfig:
        tokens = [item.name for item in self.encoders if item.targets != "pooled"]
        pooled = [item.name for item in self.decoders if item.kind not in TOKEN_KINDS]
        parts = ("bottleneck", "importance", "calibration_curve")
        pooled += [name for name in parts if getattr(self, name).enabled]
        if tokens and pooled:
            raise ValueError(
                f"encoder '{tokens[0]}' has token targets, which {some(pooled)} do not take; "
                f"decoders of kind {', '.join(TOKEN_KINDS)} do. Put the tokens into a study of "
                "their own, or take 'targets: pooled'"
            )
        return self

    @model_validator(mode="after")
    def _reranking_has_tokens(self) -> StudyConfig:
        tokens = [
            item.name
            for item in self.encoders
            if item.targets != "pooled" or item.kind == "precomputed"
        ]
        decoders = [item.name for item in self.decoders]
        for gallery in self.galleries:
            if gallery.rerank is None:
                continue
            wanted = gallery.rerank
            problems = []
            if wanted.encoder not in tokens:
                problems.append(
                    f"encoder '{wanted.encoder}' is none of the study's encoders with token "
                    f"targets, which are {some(tokens) or 'none'}; add it to `encoders` with "
                    "'targets: tokens'"
                )
            if wanted.decoder is not None and wanted.decoder not in decoders:
                problems.append(
                    f"decoder '{wanted.decoder}' is none of the study's, which are {some(decoders)}"
                )
            if problems:
                raise ValueError(f"gallery '{gallery.name}', rerank: {'; '.join(problems)}")
        return self

    @model_validator(mode="after")
    def _shared_decoders_split_by_stimulus(self) -> StudyConfig:
        shared = [item.name for item in self.decoders if item.kind == "shared"]
        if self.calibration_curve.enabled and not shared:
            raise ValueError("'calibration_curve' needs a decoder of kind 'shared': add one")
        runs = [item.name for item in self.splits if item.scheme == "leave_one_run_out"]
        if shared and runs:
            raise ValueError(
                f"decoder '{shared[0]}' is fitted on all subjects together, which needs test "
                f"stimuli that nobody was trained on, but split '{runs[0]}' holds out runs. "
                "Split by stimulus or category, or leave the decoder out"
            )
        return self

    @model_validator(mode="after")
    def _corrections_have_training_predictions(self) -> StudyConfig:
        shared = [item.name for item in self.decoders if item.kind == "shared"]
        needy = [
            f"gallery '{item.name}'"
            for item in self.galleries
            if item.options(self.retrieve).needs_training
        ] + [
            f"search '{item.name}'"
            for item in self.searches
            if item.options(self.retrieve).needs_inductive_correction
        ]
        if shared and needy:
            raise ValueError(
                f"{needy[0]} needs predictions of held-out training samples (a correction from "
                f"'train', or candidate sets), which decoder '{shared[0]}' of kind 'shared' does "
                "not keep. Leave one of them out"
            )
        return self

    @model_validator(mode="after")
    def _bands_are_rois(self) -> StudyConfig:
        rois = {roi.name for roi in self.rois}
        importance = self.importance
        unknown = sorted({importance.roi, *importance.parts} - rois) if importance.enabled else []
        if unknown:
            raise ValueError(
                f"'importance' names {some(unknown)}, no ROIs of the study; known are "
                f"{some(sorted(rois))}"
            )
        for decoder in self.decoders:
            unknown = sorted(set(getattr(decoder, "bands", [])) - rois)
            if unknown:
                raise ValueError(
                    f"decoder '{decoder.name}': bands {some(unknown)} are no ROIs of the study; "
                    f"known are {some(sorted(rois))}"
                )
        return self

    @model_validator(mode="after")
    def _compared_decoders_exist(self) -> StudyConfig:
        names = [item.name for item in self.decoders]
        unknown = (
            [] if self.group.compare == "all" else sorted(set(self.group.compare) - set(names))
        )
        if unknown:
            raise ValueError(
                f"'group.compare' names {some(unknown)}, no decoders of the study; known are "
                f"{some(names)}"
            )
        return self

    @model_validator(mode="after")
    def _surface_has_single_decoders(self) -> StudyConfig:
        wanted = self.surface
        if not wanted.enabled:
            return self
        able = [
            item.name
            for item in self.decoders
            if item.name in self.single_decoders
            and item.calibration != "transductive"
            and not getattr(item, "bands", [])
        ]
        rois = [roi.name for roi in self.rois]
        for key, what, names, known in (
            ("decoders", "decoders that fit again by themselves", wanted.decoders, able),
            ("rois", "ROIs", wanted.rois, rois),
        ):
            unknown = sorted(set(names) - set(known))
            if unknown:
                raise ValueError(
                    f"'surface.{key}' names {some(unknown)}; {what} of the study are "
                    f"{some(known) or 'none'}"
                )
        return self

    @model_validator(mode="after")
    def _volume_times_agree(self) -> StudyConfig:
        realign = self.realign
        shifted = realign.enabled and realign.slice_timing
        if shifted and realign.slice_time_ref != self.betas.slice_time_ref:
            raise ValueError(
                f"'realign' shifts every slice to {realign.slice_time_ref:g} TR, but "
                f"'betas.slice_time_ref' is {self.betas.slice_time_ref:g}. Set it to "
                f"{realign.slice_time_ref:g}"
            )
        return self


def parse_study(options: Mapping[str, Any], *, where: str) -> StudyConfig:
    """Check a study's config; every problem in one :class:`ConfigError`."""
    return parse_section(StudyConfig, options, where=where)


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of :class:`StudyConfig`."""
    schema = {"$schema": SCHEMA_URI, **StudyConfig.model_json_schema()}
    return json.loads(json.dumps(schema))
