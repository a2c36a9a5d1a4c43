_base_ = './fcn_pyramid-weightformer-micro_context.py'

# The hard version: a marker of 7x7 pixels instead of a band.
prepare_data = (
    'python tools/make_shapes.py --context --cue-area 0.003 --out data/shapes_context_hard --train 1200 '
    '--val 200 --size 128'
)
data_root = 'data/shapes_context_hard/'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
