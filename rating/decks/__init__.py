"""Rate decks: files of rates, read and written. Bytes become a sheet of texts, a mapping says what its columns mean.

    sheet.py     bytes (CSV, XLSX) → `Sheet`: encoding, delimiter, header row
    mapping.py   which column means what: guessed, shown, changed, confirmed
    prefixes.py  what people write for prefixes: +49, 0049, 4915-4917, 49151;49152
    numbers.py   what people and spreadsheets write for numbers
    cells.py     steps, bands and surcharges as the text of one cell, and back
    own.py       a row of callctl's own format → `Rate`, and back
    reading.py   `Sheet` + `Mapping` → `Deck`: rates, bad rows by line and column, and what was understood
    writing.py   rates → a deck in callctl's own format that reads as the same rates

A million rows are read within seconds because rows are never looked at one by one: columns are checked as columns, and
what rates cost (their terms) is worked out once for all rows that say the same.
"""
