"""The fault matrix: scenarios that break one thing on purpose, and check that no write is lost or done twice."""
