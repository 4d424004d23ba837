"""Data for training and evaluation: labelled images, sequences, maps and augmentations."""
