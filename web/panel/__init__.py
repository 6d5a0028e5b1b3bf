"""The panel: one file per screen."""
