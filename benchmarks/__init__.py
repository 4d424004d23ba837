"""Benchmarks of speed and accuracy. Everything that is compared is measured in the same run."""
