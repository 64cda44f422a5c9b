"""Floor 3: the LightningModules, Stage1VIB, Stage2ConditionalVIB and Probe, and how they are trained."""
