"""``stm-skeletons label``: a teacher network labels footage in PoseTrack18's format."""
