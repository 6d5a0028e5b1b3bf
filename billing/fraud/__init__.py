"""The fraud guard: rules over what accounts call and spend, watched while calls are up."""
