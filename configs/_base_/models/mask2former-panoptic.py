# Mask2Former for things and stuff as mmdet's mask2former_r50_8xb2-lsj-50e_coco-panoptic has it: the head of
# mask2former.py in mmdet's detector. A config adds the backbone and, for other data than COCO, the classes.
_base_ = ['../detection.py', './mask2former.py']

classes = dict(num_things_classes=80, num_stuff_classes=53)
own = ('num_classes', 'align_corners', 'train_cfg')  # what mmseg's head alone takes
head = {key: value for key, value in _base_.model.decode_head.items() if key not in own}
head['loss_cls'] = dict(head['loss_cls'], class_weight=[1.0] * 133 + [0.1])
image_size = (1024, 1024)
padding = dict(pad_mask=True, mask_pad_value=0, pad_seg=True, seg_pad_value=255)
model = dict(
    _delete_=True,
    _scope_='mmdet',
    type='Mask2Former',
    data_preprocessor=dict(
        type='SizedDetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
        batch_augments=[
            dict(type='BatchFixedSizePad', size=image_size, img_pad_value=0, **padding)
        ],
        **padding,
    ),
    panoptic_head=dict(head, **classes),
    panoptic_fusion_head=dict(type='MaskFormerFusionHead', loss_panoptic=None, **classes),
    train_cfg=_base_.model.decode_head.train_cfg,
    # evaluated as segments alone, not as objects
    test_cfg=dict(
        panoptic_on=True,
        semantic_on=False,
        instance_on=False,
        max_per_image=100,
        iou_thr=0.8,
        filter_low_score=True,
    ),
)
tta_model = None  # mmdet joins views of boxes alone
del own, head, classes, padding  # no keys of configs that are based on this one
