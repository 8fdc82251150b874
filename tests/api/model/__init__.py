"""The API and its model (`tests/support/model`) get the same requests, which Hypothesis makes up, in the same order."""
