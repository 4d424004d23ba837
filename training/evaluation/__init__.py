"""Evaluation on sequences: precision, recall and F1 as in the paper's tables and Figure 7, AP of people, tracking."""
