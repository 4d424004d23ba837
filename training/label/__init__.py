"""Own footage: a teacher network labels it, in PoseTrack18's format."""
