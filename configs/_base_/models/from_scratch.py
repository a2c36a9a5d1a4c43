# Training from scratch in minutes goes faster with larger first weights than the published ones.
scratch_init = [
    dict(type='Xavier', layer=['Linear', 'DynamicLinear'], distribution='uniform'),
    dict(type='Normal', layer='DynamicDepthwiseConv2d', std=0.2),
]
