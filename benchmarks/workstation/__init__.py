"""What is added to a report on a workstation: F1 and plots."""
