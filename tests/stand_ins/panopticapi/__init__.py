"""What mmdet takes from panopticapi, which is on no package index, for tests without it."""
