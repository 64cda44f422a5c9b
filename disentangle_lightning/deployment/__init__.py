"""The parts of DisentangledEncoder: its stages, where they come from, how it is saved, what it writes for files."""
