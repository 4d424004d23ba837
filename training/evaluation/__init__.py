"""Precision, recall and F1 of maps and keypoints over sequences, as the paper's tables and Figure 7 have them."""
