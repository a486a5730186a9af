"""Training of the papers' methods, one module per paper in the order of its sections. No layers are defined here."""
