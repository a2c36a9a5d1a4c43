"""The sizes of the networks by name. No library is needed for them."""

from __future__ import annotations

ISOTROPIC = {
    'tiny': dict(embed_dims=192, depth=17),
    'small': dict(embed_dims=384, depth=17),
    'base': dict(embed_dims=384, depth=17),
}
PYRAMID = {
    'micro': dict(embed_dims=(32, 64, 128, 192), depths=(3, 3, 3, 3)),
    'nano': dict(embed_dims=(32, 64, 160, 256), depths=(3, 3, 15, 3)),
    'tiny': dict(embed_dims=(64, 128, 320, 512), depths=(3, 3, 15, 3)),
    'small': dict(embed_dims=(96, 192, 384, 640), depths=(3, 3, 21, 3)),
    'base': dict(embed_dims=(128, 256, 512, 768), depths=(3, 3, 21, 3)),
}
