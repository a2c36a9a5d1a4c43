"""The effective receptive field: which pixels the central output position depends on, and how much."""

from .energy import ReceptiveField, receptive_field, share_beyond
from .picture import draw_receptive_fields

__all__ = ['ReceptiveField', 'draw_receptive_fields', 'receptive_field', 'share_beyond']
