# Fully sharded data parallel: weights, gradients and the optimizer's state lie spread over the processes;
# each block of the backbone is gathered when it runs. Shards and their sums are float32; the optimizer
# wrapper decides what is bfloat16, as without sharding. Checkpoints hold the whole model.
runner_type = 'FlexibleRunner'
strategy = dict(
    type='ShardedStrategy',
    model_wrapper=dict(
        type='MMFullyShardedDataParallel',
        sharding_strategy='FULL_SHARD',
        auto_wrap_policy='wrap_blocks',
        use_orig_params=True,
    ),
)
