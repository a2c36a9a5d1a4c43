# torchrun --nproc_per_node=8 tools/train.py CONFIG --launcher pytorch
_base_ = ['./mask-rcnn_pyramid-weightformer-base_fpn_ms-crop-3x_coco.py', '../_base_/fsdp.py']

# 36 epochs * 117266 images / batch 16 = 263880 iterations
