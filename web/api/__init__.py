"""The JSON API for programs has its room here; the panel never goes through it."""
