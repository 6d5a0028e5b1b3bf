"""Decks in the store: looked at before the import, imported as the next version of a tariff, undone, exported."""
