"""What is laid around a tariff: mark-ups, discounts, own rates. Set in SQL, read with the catalogue, applied purely."""
