"""What to make, and which files on disk are the generator's."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from weightformer_mm.datasets.generated import Generator
from weightformer_mm.datasets.shapes.classes import CLASSES, CONTEXT_CLASSES
from weightformer_mm.datasets.shapes.context import STATIC_REACH, ContextRules
from weightformer_mm.datasets.shapes.errors import ShapesError

MIN_SIDE, MAX_SIDE = 64, 8192
MAX_IMAGES = 1_000_000  # file names have six digits

GENERATOR = Generator(
    name='weightformer_mm.datasets.shapes',
    short_name='shapes',
    version=1,
    tool='tools/make_shapes.py',
    error=ShapesError,
    files=re.compile(
        r'images|annotations|(images|annotations)/(train|val)'
        r'|(images|annotations)/(train|val)/\d{6}\.png|annotations/instances_(train|val)\.json'
        r'|annotations/classes_(train|val)\.txt'
    ),
)


@dataclass(frozen=True)
class ShapesConfig:
    """What to make: numbers of pictures, their side in pixels, the seed, and which kind of pictures.

    Attributes:
        train, val: numbers of pictures.
        size: side of a picture in pixels.
        seed: another one gives another set.
        single: one object per picture.
        context: ContextShapes, see `context`.
        reach: of ContextShapes, the distance in pixels that every object keeps from the mark.
        cue_area: of ContextShapes, share of the picture of a small marker; None: a band.

    Raises:
        ShapesError: a value is out of range.
    """

    train: int = 400
    val: int = 80
    size: int = 256
    seed: int = 0
    single: bool = False
    context: bool = False
    reach: int = STATIC_REACH
    cue_area: float | None = None

    def __post_init__(self) -> None:
        for name in ('train', 'val'):
            count = getattr(self, name)
            if not 0 <= count <= MAX_IMAGES:
                raise ShapesError(f'{name} must be between 0 and {MAX_IMAGES}, got {count}')
        if self.train + self.val == 0:
            raise ShapesError('train and val are both 0: there is nothing to make')
        if not MIN_SIDE <= self.size <= MAX_SIDE:
            raise ShapesError(f'size must be between {MIN_SIDE} and {MAX_SIDE}, got {self.size}')
        if self.seed < 0:
            raise ShapesError(f'seed must not be negative, got {self.seed}')
        if self.context:
            if self.single:
                raise ShapesError('single and context are two kinds of sets: choose one')
            self.context_rules().check(self.size)
        elif (self.reach, self.cue_area) != (STATIC_REACH, None):
            raise ShapesError('reach and cue_area belong to context: give it as well')

    def context_rules(self) -> ContextRules | None:
        return ContextRules(self.reach, self.cue_area) if self.context else None

    def class_names(self) -> tuple[str, ...]:
        """The classes of the objects, in the order of their numbers."""
        return CONTEXT_CLASSES if self.context else CLASSES

    def parameters(self) -> dict:
        """The values as the manifest states them; kinds of sets that came later only where they are set."""
        values = asdict(self)
        if not self.single:
            del values['single']
        if not self.context:
            for name in ('context', 'reach', 'cue_area'):
                del values[name]
        return values
