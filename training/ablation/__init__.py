"""The paper's tables and its Figure 7, filled with what was measured."""
