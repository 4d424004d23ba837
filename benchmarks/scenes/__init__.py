"""Evaluates grouping and ids on composed scenes: real 2-D motion, with the network's measured errors."""
