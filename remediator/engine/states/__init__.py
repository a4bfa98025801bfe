"""What a run does in each state of its graph."""
