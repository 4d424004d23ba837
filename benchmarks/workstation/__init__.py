"""Parts of a report that need a workstation's libraries: F1 and plots."""
