"""The fault matrix: what breaks, on purpose, and proof that nothing is lost or doubled by it."""
