"""Reproduces the paper's tables and Figure 7 with our measurements."""
