"""What to make."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ...errors import UserError

MIN_SIDE, MAX_SIDE = 32, 8192
MAX_IMAGES = 100_000

# height and width of the largest pictures where none is asked for: about those of the real data
DEFAULT_SIZES = {'coco': (480, 640), 'ade20k': (512, 683), 'cityscapes': (1024, 2048)}
LAYOUTS = tuple(DEFAULT_SIZES)


class MiniatureError(UserError):
    """The set cannot be made as asked."""


@dataclass(frozen=True)
class MiniatureConfig:
    """What to make: the layout, numbers of pictures, their size and the seed.

    Attributes:
        layout: 'coco', 'ade20k' or 'cityscapes'.
        train, val: numbers of pictures.
        seed: another one gives another set.
        size: height and width in pixels of a picture in landscape format; COCO's and ADE20K's others are
            upright, square, narrower or of odd sides, and none is longer. None: about the real data's.

    Raises:
        MiniatureError: a value is out of range.
    """

    layout: str
    train: int = 16
    val: int = 8
    seed: int = 0
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise MiniatureError(f'no layout {self.layout!r}; there are {", ".join(LAYOUTS)}')
        for name in ('train', 'val'):
            count = getattr(self, name)
            if not 0 <= count <= MAX_IMAGES:
                raise MiniatureError(f'{name} must be between 0 and {MAX_IMAGES}, got {count}')
        if self.train + self.val == 0:
            raise MiniatureError('train and val are both 0: there is nothing to make')
        if self.seed < 0:
            raise MiniatureError(f'seed must not be negative, got {self.seed}')
        object.__setattr__(self, 'size', tuple(self.size or DEFAULT_SIZES[self.layout]))
        if len(self.size) != 2 or not all(MIN_SIDE <= side <= MAX_SIDE for side in self.size):
            raise MiniatureError(
                f'size must be a height and a width between {MIN_SIDE} and {MAX_SIDE}, got {self.size}'
            )

    def parameters(self) -> dict:
        """The values as the manifest states them."""
        return {**asdict(self), 'size': list(self.size)}
