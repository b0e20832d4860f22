"""What is looked at after a run: statistics and pictures."""
