"""The study behind hkbench in figures, as published: of other pictures, so never divided by ours."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """One network of the study; size as stored, accuracy a share of the study's own test part."""

    name: str
    source: str
    size_bytes: int | None
    accuracy: float


STUDY = (
    StudyRow(name="baseline CNN", source="S1", size_bytes=None, accuracy=0.612),
    StudyRow(name="DenseNet, the teacher", source="S2", size_bytes=430_000_000, accuracy=0.887),
    StudyRow(name="SqueezeNet, its student", source="S17", size_bytes=4_400_000, accuracy=0.893),
)
