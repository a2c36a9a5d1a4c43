# Training from scratch in minutes needs larger first weights than the published initialisation, which is
# made for 300 epochs of ImageNet.
scratch_init = [
    dict(type='Xavier', layer=['Linear', 'DynamicLinear'], distribution='uniform'),
    dict(type='Normal', layer='DynamicDepthwiseConv2d', std=0.2),
]
