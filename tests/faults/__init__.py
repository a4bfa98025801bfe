"""Real daemons whose surroundings fail: their database, their disk, their clock, their provider."""
