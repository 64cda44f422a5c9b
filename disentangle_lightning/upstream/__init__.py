"""Floor 1: frozen pretrained speech encoders, and what each family of them wants."""
