"""Floor 4: questions asked of trained stages."""
