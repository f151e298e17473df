"""MissionTemplate: what a Schedule, Goal or Todo makes missions from. Not a kind: it has no identity of its own."""

from __future__ import annotations

from pydantic import Field

from schemas.base import Annotations, Labels, Model, PartName
from schemas.mission import MissionSpec


class TemplateMeta(Model):
    """Metadata that each mission made from the template gets."""

    labels: Labels = Field(default_factory=dict, description="Label pairs of each mission.")
    annotations: Annotations = Field(default_factory=dict, description="Annotations of each mission.")


class MissionTemplate(Model):
    """A mission to be made."""

    metadata: TemplateMeta = Field(default_factory=TemplateMeta, description="Labels and annotations of each mission.")
    spec: MissionSpec = Field(description="Spec of each mission; as under kind Mission.")


class NamedMissionTemplate(MissionTemplate):
    """One of several missions to be made."""

    name: PartName = Field(description="Tells the templates apart; part of the name of each mission.")
