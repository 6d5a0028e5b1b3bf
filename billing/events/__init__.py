"""Events: what happened is told to whoever wants to know, by webhook or e-mail, until they have heard it."""
